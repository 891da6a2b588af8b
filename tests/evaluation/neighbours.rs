//! Neighbours: against distances that are computed here, in f64, from two files of features.

use super::*;

/// Rows of a file's features.
fn rows(world: &World, file: &str) -> Vec<Vec<f64>> {
    let (shape, values) = floats(world, file, "features");
    values.chunks_exact(shape[1]).map(<[f64]>::to_vec).collect()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

fn ask(world: &World, options: &str, images: &[String]) -> Value {
    let output =
        world.command(&format!("neighbours --json {options}")).args(images).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", common::stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_nearest_of_all_distances() {
    let world = world();
    world.ok("features --checkpoint a --out near.safetensors");
    world.ok("features --checkpoint a --split test --out near-test.safetensors");
    let (train, test) = (rows(&world, "near.safetensors"), rows(&world, "near-test.safetensors"));
    let answers = ask(&world, "--features near.safetensors --count 5 --verify", &images("test"));
    for (i, (answer, query)) in answers.as_array().unwrap().iter().zip(&test).enumerate() {
        assert_eq!(answer["image"], images("test")[i]);
        let mut all: Vec<f64> = train.iter().map(|row| distance(row, query)).collect();
        let neighbours = answer["neighbours"].as_array().unwrap();
        assert_eq!(neighbours.len(), 5);
        let mut seen = Vec::new();
        for neighbour in neighbours {
            let row = neighbour["index"].as_u64().unwrap() as usize;
            assert!(!seen.contains(&row), "{answer}");
            seen.push(row);
            let printed = neighbour["distance"].as_f64().unwrap();
            assert!((printed - all[row]).abs() < 1e-4, "{printed}, {}", all[row]);
            assert_eq!(
                format!("photos/{}", neighbour["file"].as_str().unwrap()),
                images("train")[row]
            );
            assert_eq!(neighbour["label"], CLASSES[label("train", row)]);
        }
        all.sort_by(f64::total_cmp);
        let printed = neighbours.iter().map(|n| n["distance"].as_f64().unwrap());
        assert!(printed.zip(&all).all(|(a, b)| (a - b).abs() < 1e-4), "{answer}");
    }
}

#[test]
fn a_training_image_is_its_own_neighbour_and_drawn() {
    let world = world();
    world.ok("features --checkpoint b --out own.safetensors");
    let asked = [images("train")[3].clone(), images("train")[77].clone()];
    let options = "--features own.safetensors --count 4 --out sheet.png";
    let answers = ask(&world, options, &asked);
    for (answer, row) in answers.as_array().unwrap().iter().zip([3, 77]) {
        assert_eq!(answer["neighbours"][0]["index"], row);
        assert!(answer["neighbours"][0]["distance"].as_f64().unwrap() < 1e-4);
    }
    let sheet = image::open(world.path("sheet.png")).unwrap();
    assert!(
        sheet.width() > 5 * 112 && sheet.height() > 2 * 112,
        "{}×{}",
        sheet.width(),
        sheet.height()
    );
    let text = world.command("neighbours --features own.safetensors").args(&asked[..1]).output();
    let text = String::from_utf8(text.unwrap().stdout).unwrap();
    assert!(text.starts_with(&asked[0]) && text.lines().count() == 7, "{text}");
    // One that cannot be read does not keep the others from being answered.
    let output = world.command("neighbours --json --features own.safetensors none.png");
    let output = { output }.args(&asked[..1]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let answers: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(answers[0]["error"].as_str().unwrap().contains("none.png"));
    assert_eq!(answers[1]["neighbours"][0]["index"], 3);
}

#[test]
fn another_checkpoint_or_data_set_is_refused_and_a_moved_one_named() {
    let world = world();
    fs::create_dir(world.path("moving")).unwrap();
    fs::copy(world.path("a/best.safetensors"), world.path("moving/net.safetensors")).unwrap();
    let make = "features --checkpoint moving/net.safetensors --split val --out moving.safetensors";
    world.ok(make);
    let image = &images("test")[0];
    let ask = |more: &str| format!("neighbours {image} --features moving.safetensors {more}");
    world.ok(&ask(""));
    fs::copy(world.path("b/best.safetensors"), world.path("moving/net.safetensors")).unwrap();
    world.fails(&ask(""), 1, &["moving/net.safetensors", "CRC-32", "--checkpoint"]);
    fs::remove_file(world.path("moving/net.safetensors")).unwrap();
    world.fails(&ask(""), 1, &["moving/net.safetensors", "--checkpoint FILE"]);
    world.ok(&ask("--checkpoint a/best.safetensors"));
    world.fails(&ask("--checkpoint a/best.safetensors --data none"), 1, &["--data DIR", "none"]);
    world.ok("prepare image-folder photos/train --out other-images --size 16");
    let other = ask("--checkpoint a/best.safetensors --data other-images");
    world.fails(&other, 1, &["other images", "other-images"]);
    let own = ask("--checkpoint a/best.safetensors --out moving.safetensors");
    assert_eq!(world.run(&own).status.code(), Some(2));
}

#[test]
fn damaged_features_are_found_where_that_is_asked_for() {
    let world = world();
    world.ok("features --checkpoint a --split val --out damaged.safetensors");
    let mut bytes = world.bytes("damaged.safetensors");
    // In the features, which lie before 70 labels of eight bytes.
    let at = bytes.len() - 70 * 8 - 100;
    bytes[at] ^= 1;
    fs::write(world.path("damaged.safetensors"), &bytes).unwrap();
    let ask = format!("neighbours {} --features damaged.safetensors", images("val")[0]);
    world.ok(&ask);
    world.fails(&format!("{ask} --verify"), 1, &["damaged.safetensors", "features", "checksum"]);
    bytes[20] ^= 1;
    fs::write(world.path("damaged.safetensors"), &bytes).unwrap();
    world.fails(&ask, 1, &["damaged.safetensors"]);
    world.ok("features --checkpoint a --split val --out plain.npy");
    let image = &images("val")[0];
    world.fails(
        &format!("neighbours {image} --features plain.npy"),
        1,
        &["plain.npy", "no file of features"],
    );
}
