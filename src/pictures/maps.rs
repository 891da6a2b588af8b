//! Maps of single values, such as a layer makes of an image, as grey tiles.

use super::canvas::Pixels;
use super::kernels::shade;
use super::tiles::Block;

/// One map.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Values from left to right.
    pub width: usize,
    /// Values from top to bottom.
    pub height: usize,
    /// [height, width].
    pub values: Vec<f32>,
}

/// What is as white as can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The largest value, the sign left out, of each map.
    Map,
    /// That of all maps.
    Layer,
}

/// The maps of each tower, after its number, as blocks of tiles. Zero is black, or grey (128) where
/// any value of any map is below it.
pub fn blocks(towers: &[(usize, Vec<Map>)], reach: Reach) -> Vec<Block> {
    let all = || towers.iter().flat_map(|(_, maps)| maps);
    let signed = all().any(|map| map.values.iter().any(|value| *value < 0.0));
    let of_all = all().map(largest).fold(0.0, f32::max);
    let tile = |map: &Map| {
        let most = if reach == Reach::Map { largest(map) } else { of_all };
        tile(map, signed, most)
    };
    let block = |(tower, maps): &(usize, Vec<Map>)| {
        let first: usize =
            towers.iter().take_while(|(t, _)| t != tower).map(|(_, m)| m.len()).sum();
        let name = match towers.len() {
            1 => String::new(),
            _ => format!("tower {tower}: maps {first} to {}", first + maps.len() - 1),
        };
        Block { name, tiles: maps.iter().map(tile).collect() }
    };
    towers.iter().map(block).collect()
}

/// The largest value of a map, the sign left out.
pub fn largest(map: &Map) -> f32 {
    map.values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// A map as an image, `most` being white. `signed`: zero is grey, else black.
pub fn tile(map: &Map, signed: bool, most: f32) -> Pixels {
    let byte = |&value: &f32| match signed {
        true => shade(value, most),
        false if most > 0.0 => (255.0 * value / most).round() as u8,
        false => 0,
    };
    Pixels::new(map.width, map.height, 1, &map.values.iter().map(byte).collect::<Vec<u8>>())
}
