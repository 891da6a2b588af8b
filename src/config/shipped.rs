//! Configs that the program carries with it: networks whose weights others have, which `alexnet
//! import` recognises wherever it runs.

/// A config of the folder `configs`, by its file's name without the ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// `torchvision`
    pub name: &'static str,
    /// The file's text; it extends no other.
    pub text: &'static str,
}

/// torchvision's network.
pub const TORCHVISION: Shipped =
    Shipped { name: "torchvision", text: include_str!("../../configs/torchvision.toml") };

/// Caffe's bvlc_alexnet.
pub const CAFFE_ALEXNET: Shipped =
    Shipped { name: "caffe-alexnet", text: include_str!("../../configs/caffe-alexnet.toml") };

/// Caffe's bvlc_reference_caffenet.
pub const CAFFENET: Shipped =
    Shipped { name: "caffenet", text: include_str!("../../configs/caffenet.toml") };

/// All of them.
pub const ALL: [Shipped; 3] = [TORCHVISION, CAFFE_ALEXNET, CAFFENET];

/// The one of this name.
pub fn named(name: &str) -> Option<Shipped> {
    ALL.into_iter().find(|shipped| shipped.name == name)
}
