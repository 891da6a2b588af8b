//! What a GPU computes products in, and `[gpu]`, where a config says so.

use super::format::Format;
use serde::{Deserialize, Serialize};

/// `[gpu]`: how GPUs compute.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct GpuOptions {
    /// Of the factors in convolutions, locally and fully connected layers.
    #[serde(default)]
    pub precision: Wanted,
}

/// What a config asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// [`Precision::F32`].
    #[default]
    F32,
    /// [`Precision::Tf32`].
    Tf32,
    /// [`Precision::Bf16`].
    Bf16,
    /// The fastest that all GPUs have.
    Auto,
}

impl Wanted {
    /// On GPUs of this compute capability, the least of them.
    pub fn on(self, capability: (i32, i32)) -> Precision {
        match self {
            Wanted::F32 => Precision::F32,
            Wanted::Tf32 => Precision::Tf32,
            Wanted::Bf16 => Precision::Bf16,
            Wanted::Auto if capability >= Precision::Bf16.needs() => Precision::Bf16,
            Wanted::Auto => Precision::F32,
        }
    }
}

/// What products are computed in; sums are f32 in any case, and so are weights, biases, their
/// gradients and momenta.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Every factor as it is, on multiply-add units.
    #[default]
    F32,
    /// Factors rounded to TF32 (10 bits behind the point), on tensor cores.
    Tf32,
    /// Factors in bfloat16 (7 bits behind the point), on tensor cores; activations and their
    /// gradients are stored so.
    Bf16,
}

impl Precision {
    /// As in the config.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        }
    }

    /// The oldest compute capability that has it.
    pub fn needs(self) -> (i32, i32) {
        match self {
            Precision::F32 => (0, 0),
            Precision::Tf32 | Precision::Bf16 => (8, 0),
        }
    }

    /// How activations and their gradients are stored.
    pub fn format(self) -> Format {
        match self {
            Precision::F32 | Precision::Tf32 => Format::Float,
            Precision::Bf16 => Format::Bf16,
        }
    }

    /// Numbers that a read of 16 bytes takes at once (`PACK` of `kernels/real.cuh`).
    pub fn pack(self) -> usize {
        16 / self.format().bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_what_the_gpu_has() {
        for (capability, precision) in [((7, 5), "f32"), ((8, 0), "bf16"), ((12, 0), "bf16")] {
            assert_eq!(Wanted::Auto.on(capability).name(), precision);
            assert_eq!(Wanted::F32.on(capability).name(), "f32");
        }
    }
}
