//! The layer kinds. One folder each, with all there is to know about that kind: its settings, its
//! output shape and parameters, its forward and backward on the CPU, its launches on a GPU.
//!
//! To add a kind: write its folder and add its lines here; `.github/CONTRIBUTING.md` goes through
//! all of it with an example.
//!
//! From config to work in three steps: a [`Kind`] reads its [`Settings`]; [`Settings::plan`] fits
//! them to an input shape on one tower and gives a [`Layer`]; the layer's [`Role`] says how the
//! pass has to call it. Activations are NHWC, `[batch, height, width, channels]`, one tower's
//! channels together; parameters lie in the order that the layer likes best and are converted from
//! and to the order of the outside world, (out, in, height, width), when they are loaded and
//! stored.

pub mod activation;
pub mod beside;
pub mod conv;
pub mod cuda;
pub mod dropout;
pub mod fc;
mod kind;
mod layer;
pub mod local;
pub mod lrn;
pub mod normalised_pooling;
pub mod pool;
pub mod softmax;
pub mod squared_error;
mod weights;
pub mod window;

pub use crate::vectors::kernel::Rule;
pub use kind::{Classes, Family, Kind, Outputs, Place, Settings};
pub use layer::{
    Beside, ForwardFew, Gradients, Keeps, Layer, Learn, Map, ParameterShapes, PastRelu, Pointwise,
    Role, Run, Shape, Stage, Together, UpdateAtOnce,
};
pub use weights::{Input, Weights};

use kind::read_as;
pub(crate) use layer::check_values;

/// Every layer kind, one line each.
pub static KINDS: &[Kind] = &[
    conv::KIND,
    local::KIND,
    fc::KIND,
    lrn::KIND,
    pool::MAX,
    pool::AVERAGE,
    activation::RELU,
    activation::TANH,
    dropout::KIND,
    softmax::KIND,
    squared_error::KIND,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kinds_are_unique() {
        for (i, kind) in KINDS.iter().enumerate() {
            assert!(KINDS[..i].iter().all(|other| other.name != kind.name));
        }
    }
}
