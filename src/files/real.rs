//! Where a path leads, links and dots resolved, whether or not there is something yet.

use std::path::{Component, Path, PathBuf};

/// The real path of `path`: of what is there as the system says, the rest by its words. A path that
/// cannot be resolved at all comes back as it is.
pub fn real(path: &Path) -> PathBuf {
    let Ok(whole) = std::path::absolute(path) else { return path.to_path_buf() };
    let parts: Vec<Component<'_>> = whole.components().collect();
    for there in (1..=parts.len()).rev() {
        let begin: PathBuf = parts[..there].iter().collect();
        let Ok(mut found) = begin.canonicalize() else { continue };
        for part in &parts[there..] {
            match part {
                Component::ParentDir => {
                    found.pop();
                }
                part => found.push(part),
            }
        }
        return found;
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_yet_has_a_real_path_too() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().canonicalize().unwrap();
        std::fs::create_dir(at.join("a")).unwrap();
        assert_eq!(real(&at.join("a/../a/new/set")), at.join("a/new/set"));
        assert_eq!(real(&at.join("none/../a/new")), at.join("a/new"));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("a", at.join("link")).unwrap();
            assert_eq!(real(&at.join("link/set")), at.join("a/set"));
            assert_eq!(real(&at.join("link/../set")), at.join("set"));
        }
    }
}
