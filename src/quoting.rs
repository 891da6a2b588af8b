//! Commands that the program prints for a person to type: each goes through [`Typed`], which quotes
//! what a shell would take apart, so that it works when it is copied as it stands.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Component, Path};
use std::sync::OnceLock;

/// What the program is called where nobody has said how.
const NAME: &str = "alexnet";

static CALLED: OnceLock<String> = OnceLock::new();

/// From now on printed commands begin as this process was called: with the path that was typed, with
/// the name alone where a shell has found it, or with `cargo run` where Cargo has started it.
pub fn as_called() {
    let path = std::env::args_os().next().unwrap_or_default();
    let by_cargo = std::env::var_os("CARGO_MANIFEST_DIR").is_some();
    let _ = CALLED.set(called(Path::new(&path), by_cargo));
}

/// The program at the beginning of a command line, as a shell takes it.
pub fn program() -> &'static str {
    CALLED.get().map_or(NAME, String::as_str)
}

/// `path` is the program's as it was called; `by_cargo`: by Cargo, or by what Cargo has started.
fn called(path: &Path, by_cargo: bool) -> String {
    let parts: Vec<&OsStr> = path
        .components()
        .map(|part| match part {
            Component::Normal(name) => name,
            other => other.as_os_str(),
        })
        .collect();
    // `cargo run` names it relative to the folder that it was typed in; tests do not.
    match parts[..] {
        [] => NAME.to_string(),
        [target, profile, _] if by_cargo && target == "target" => match profile.to_str() {
            Some("debug") => "cargo run --".to_string(),
            Some("release") => "cargo run --release --".to_string(),
            _ => format!("cargo run --profile {} --", quoted(profile)),
        },
        _ => self::path(path),
    }
}

/// A command line of this program, to be printed.
#[derive(Clone, Debug)]
pub struct Typed {
    /// As a shell takes them, quoted.
    words: Vec<String>,
    /// Key and value of each `--set`; they come last.
    sets: Vec<(String, String)>,
}

impl Typed {
    /// The [`program`] and then `words`, which need no quoting.
    pub fn new(words: &str) -> Typed {
        Typed { words: vec![program().into(), words.into()], sets: Vec::new() }
    }

    /// One more word.
    pub fn word(mut self, word: &str) -> Typed {
        self.words.push(quoted(OsStr::new(word)));
        self
    }

    /// A file or folder as one more word.
    pub fn path(mut self, path: &Path) -> Typed {
        self.words.push(self::path(path));
        self
    }

    /// An option and the file or folder that it names.
    pub fn option(self, name: &str, path: &Path) -> Typed {
        self.word(name).path(path)
    }

    /// `--set key=value`, in place of an earlier value of that key.
    pub fn set(mut self, key: &str, value: impl fmt::Display) -> Typed {
        self.sets.retain(|(other, _)| other != key);
        self.sets.push((key.to_string(), value.to_string()));
        self
    }
}

impl fmt::Display for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join(" "))?;
        self.sets.iter().try_for_each(|(key, value)| write!(f, " {}", set(key, value)))
    }
}

/// The option that changes a key of the config.
pub fn set(key: &str, value: &str) -> String {
    let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    match plain {
        // No shell takes the sign in the middle of a word for its own, and it reads better.
        true => format!("--set {key}={}", quoted(OsStr::new(value))),
        false => format!("--set {}", quoted(OsStr::new(&format!("{key}={value}")))),
    }
}

/// A file or folder as a shell takes it. One whose name begins like an option gets `./` before it.
pub fn path(path: &Path) -> String {
    let begins_with_dash = path.as_os_str().as_encoded_bytes().first() == Some(&b'-');
    let path: Cow<'_, Path> =
        if begins_with_dash { Path::new(".").join(path).into() } else { path.into() };
    quoted(path.as_os_str())
}

/// A word as a shell takes it; as it is where there is nothing to quote.
fn quoted(word: &OsStr) -> String {
    match word.to_str().filter(|text| !text.chars().any(char::is_control)) {
        Some(text) if cfg!(windows) => match text.chars().all(is_plain_on_windows) {
            true if !text.is_empty() => text.to_string(),
            _ => format!("\"{text}\""),
        },
        Some(text) => match shlex::try_quote(text) {
            Ok(quoted) => quoted.into_owned(),
            Err(_) => octal(word),
        },
        // Names that are no UTF-8, or that would break the line they are printed on.
        None => octal(word),
    }
}

fn is_plain_on_windows(c: char) -> bool {
    c.is_alphanumeric() || "\\/:._-+@".contains(c)
}

/// `$'…'` with all but plain characters as octal numbers, which bash, zsh, ksh and POSIX 2024 know.
fn octal(word: &OsStr) -> String {
    let bytes = word.as_encoded_bytes().iter().map(|&byte| match byte {
        b'\'' | b'\\' | 0..0x20 | 0x7f.. => format!("\\{byte:03o}"),
        byte => char::from(byte).to_string(),
    });
    format!("$'{}'", bytes.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_command_stays_as_it_is() {
        let typed = Typed::new("train --resume").option("--run", Path::new("runs/demo-2"));
        let typed = typed.set("train.epochs", 4).set("schedule.rate", 0.5).set("train.epochs", 9);
        let text = "alexnet train --resume --run runs/demo-2 --set schedule.rate=0.5 --set \
                    train.epochs=9";
        assert_eq!(typed.to_string(), text);
    }

    #[test]
    fn the_program_is_named_as_it_was_called() {
        for (path, by_cargo, name) in [
            ("alexnet", false, "alexnet"),
            ("alexnet", true, "alexnet"),
            ("./alexnet", false, "./alexnet"),
            ("target/release/alexnet", false, "target/release/alexnet"),
            ("target/release/alexnet", true, "cargo run --release --"),
            ("target/debug/alexnet", true, "cargo run --"),
            ("target/profiling/alexnet", true, "cargo run --profile profiling --"),
            ("/a b/target/debug/alexnet", true, "'/a b/target/debug/alexnet'"),
            ("", false, "alexnet"),
        ] {
            let expected = if cfg!(windows) { name.replace('\'', "\"") } else { name.to_string() };
            assert_eq!(called(Path::new(path), by_cargo), expected, "{path}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_shell_gives_back_every_word() {
        use std::os::unix::ffi::OsStrExt;
        let names: [&[u8]; 14] = [
            b"my net",
            b"it's",
            b"a\"b",
            b"$HOME",
            b"`x`",
            b"a\nb",
            b"tab\there",
            b"~",
            b"a*b?[c]",
            b"b\\n!x",
            "Größe".as_bytes(),
            b"no\xffutf8'1",
            b"#",
            b"(a;b&c|d)<e>",
        ];
        for name in names {
            let line = format!("printf %s {}", path(Path::new(OsStr::from_bytes(name))));
            let output = std::process::Command::new("bash").args(["-c", &line]).output().unwrap();
            assert_eq!(output.stdout, name, "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
        assert_eq!(path(Path::new("-x")), "./-x");
        let set = Typed::new("train").set("schedule.steps", "[{ epoch = 2 }]").to_string();
        let output = std::process::Command::new("bash")
            .args(["-c", &set.replacen("alexnet", "printf '%s,'", 1)])
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"train,--set,schedule.steps=[{ epoch = 2 }],");
    }
}
