//! How activations and their gradients are stored on a GPU (`kernels/real.cuh`).

use super::compile::Constant;

/// Of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// f32.
    Float,
    /// bfloat16: the upper half of an f32, to nearest, halves to even.
    Bf16,
}

impl Format {
    /// Size of a number in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Format::Float => size_of::<f32>(),
            Format::Bf16 => size_of::<u16>(),
        }
    }

    /// What says so to a kernel; none for f32, which is what kernels take without it.
    pub fn constant(self) -> Option<Constant> {
        (self == Format::Bf16).then(|| ("BF16", "1".into()))
    }

    /// The values as a GPU reads them.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Format::Float => values.iter().flat_map(|v| v.to_ne_bytes()).collect(),
            Format::Bf16 => values.iter().flat_map(|&v| to_bf16(v).to_ne_bytes()).collect(),
        }
    }

    /// What a GPU wrote, whole numbers of it.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Format::Float => bytes
                .chunks_exact(4)
                .map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
            Format::Bf16 => {
                let number = |b: &[u8]| of_bf16(u16::from_ne_bytes([b[0], b[1]]));
                bytes.chunks_exact(2).map(number).collect()
            }
        }
    }
}

/// To bfloat16's bits, to nearest, halves to even; NaN stays NaN.
pub fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return 0x7fff;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// The number that bfloat16's bits are.
pub fn of_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_the_nearest_of_8_bits() {
        // What lies in the middle of two numbers goes to the even one.
        for (value, rounded) in [
            (1.0, 1.0),
            (1.0 + 0.5 / 128.0, 1.0),
            (1.0 + 0.50001 / 128.0, 1.0 + 1.0 / 128.0),
            (1.0 + 1.5 / 128.0, 1.0 + 2.0 / 128.0),
            (-1.0 - 1.5 / 128.0, -1.0 - 2.0 / 128.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
        ] {
            assert_eq!(of_bf16(to_bf16(value)), rounded, "{value}");
        }
        assert!(of_bf16(to_bf16(f32::NAN)).is_nan());
        let values = [0.5, -3.0, 1e-40];
        assert_eq!(Format::Float.decode(&Format::Float.encode(&values)), values);
        assert_eq!(Format::Bf16.decode(&Format::Bf16.encode(&values))[..2], values[..2]);
    }
}
