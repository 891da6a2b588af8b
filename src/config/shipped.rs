//! Configs that the program carries with it: all those of the folder `configs`, which go by name
//! wherever it runs, and among them the networks whose weights others have, which `alexnet import`
//! recognises.

use std::path::Path;

/// A config of the folder `configs`, by its file's name without the ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// `torchvision`
    pub name: &'static str,
    /// The file's text.
    pub text: &'static str,
}

/// The folder that they lie in, where the program's source is; files that they name are beside them.
pub const FOLDER: &str = "configs";

/// torchvision's network.
pub const TORCHVISION: Shipped =
    Shipped { name: "torchvision", text: include_str!("../../configs/torchvision.toml") };

/// Caffe's bvlc_alexnet.
pub const CAFFE_ALEXNET: Shipped =
    Shipped { name: "caffe-alexnet", text: include_str!("../../configs/caffe-alexnet.toml") };

/// Caffe's bvlc_reference_caffenet.
pub const CAFFENET: Shipped =
    Shipped { name: "caffenet", text: include_str!("../../configs/caffenet.toml") };

/// The networks whose weights others have.
pub const KNOWN: [Shipped; 3] = [TORCHVISION, CAFFE_ALEXNET, CAFFENET];

macro_rules! shipped {
    ($($name:literal,)*) => {
        &[$(Shipped {
            name: $name,
            text: include_str!(concat!("../../configs/", $name, ".toml")),
        },)*]
    };
}

/// All of them, by name.
pub static ALL: &[Shipped] = shipped![
    "caffe-alexnet",
    "caffenet",
    "cifar10",
    "cifar10-local",
    "cifar10-local-lrn",
    "cifar10-relu",
    "cifar10-tanh",
    "cifar100",
    "demo",
    "fall2009",
    "fall2011-pretrain",
    "ilsvrc2010",
    "ilsvrc2010-no-color-noise",
    "ilsvrc2010-no-crops",
    "ilsvrc2010-no-dropout",
    "ilsvrc2010-no-lrn",
    "ilsvrc2010-one-tower",
    "ilsvrc2010-original",
    "ilsvrc2010-plain-pooling",
    "ilsvrc2010-without-conv3",
    "ilsvrc2010-without-conv4",
    "ilsvrc2010-without-conv5",
    "ilsvrc2012",
    "ilsvrc2012-caffe-start",
    "ilsvrc2012-finetune",
    "ilsvrc2012-large-batch",
    "mnist",
    "own-images",
    "own-images-finetune",
    "torchvision",
];

/// The one of [`KNOWN`] of this name.
pub fn known(name: &str) -> Option<Shipped> {
    KNOWN.into_iter().find(|shipped| shipped.name == name)
}

/// The one of this name.
pub fn named(name: &str) -> Option<Shipped> {
    ALL.iter().find(|shipped| shipped.name == name).copied()
}

/// The one that a person means by `path`, where no such file is (a folder may be called so): its
/// name, with or without the ending.
pub fn named_by(path: &Path) -> Option<Shipped> {
    let name = path.to_str().filter(|_| !path.is_file())?;
    named(name.strip_suffix(".toml").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::fs;

    #[test]
    fn every_config_of_the_folder_is_carried_and_is_what_the_file_is() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
        let mut files = 0;
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|ending| ending != "toml") {
                continue;
            }
            files += 1;
            let name = path.file_stem().unwrap().to_str().unwrap();
            let shipped = named(name).unwrap_or_else(|| panic!("{name} is not carried"));
            assert_eq!(shipped.text, fs::read_to_string(&path).unwrap());
            // Tests run in the package's folder, in which no file is called so.
            let [mut of_file, mut of_name] =
                [&path, Path::new(name)].map(|path| Config::read(path, &[]).unwrap());
            for config in [&mut of_file, &mut of_name] {
                config.data.prepare = None;
            }
            assert_eq!(of_file.to_toml(), of_name.to_toml(), "{name}");
            assert_eq!(of_name.name, name);
        }
        assert_eq!(files, ALL.len());
        assert_eq!(named_by(Path::new("ilsvrc2010.toml")), named("ilsvrc2010"));
        assert_eq!(named_by(Path::new("Cargo.toml")), None);
    }
}
