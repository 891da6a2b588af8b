//! Which class an image is known to be of: the one that `--label` names, or else that of the folder
//! that the image lies in.

use crate::config_error;
use crate::data::dataset::Class;
use crate::keys::nearest;
use anyhow::Result;
use std::path::Path;

/// The index of the class that a person calls `name`: by its id, or by its name or the first of its
/// names (`tench` of `tench, Tinca tinca`).
fn find(name: &str, classes: &[Class]) -> Option<usize> {
    let first = |class: &Class| class.name.split(',').next().unwrap_or("").trim() == name;
    let by = |is: &dyn Fn(&Class) -> bool| classes.iter().position(is);
    by(&|class| class.id == name).or_else(|| by(&|class| class.name == name)).or_else(|| by(&first))
}

/// The class that the option `option` names.
///
/// # Errors
/// If there is no such class; the sentence has the nearest name.
pub fn named(option: &str, name: &str, classes: &[Class]) -> Result<usize> {
    find(name, classes).ok_or_else(|| {
        let names: Vec<&str> =
            classes.iter().flat_map(|class| [class.id.as_str(), class.name.as_str()]).collect();
        config_error!(
            "{option} {name:?} is none of the {} classes of the checkpoint{}",
            classes.len(),
            nearest(name, &names)
        )
    })
}

/// The class that the folder of the image `path` is called after, if it is one's id or name.
pub fn of_folder(path: &Path, classes: &[Class]) -> Option<usize> {
    find(path.parent()?.file_name()?.to_str()?, classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_go_by_id_name_and_first_name() {
        let class = |id: &str, name: &str| Class { id: id.into(), name: name.into(), number: None };
        let classes = [class("n01440764", "tench, Tinca tinca"), class("dogs", "dogs")];
        for name in ["n01440764", "tench, Tinca tinca", "tench"] {
            assert_eq!(named("--label", name, &classes).unwrap(), 0, "{name}");
        }
        assert_eq!(of_folder(Path::new("photos/dogs/1.jpg"), &classes), Some(1));
        assert_eq!(of_folder(Path::new("1.jpg"), &classes), None);
        let error = named("--label", "dog", &classes).unwrap_err().to_string();
        assert!(error.contains("\"dog\"") && error.contains("the nearest is \"dogs\""), "{error}");
    }
}
