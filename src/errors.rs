//! What decides the exit code: errors of the command line or the config are 2, all others 1.
//!
//! Everything else about an error is its sentence. Errors are `anyhow::Error`; where the cause lies
//! in what the user wrote (a config, an option), they are made with
//! [`config_error!`](crate::config_error), and the mark survives any context added on the way up.

use std::fmt;

/// The user's command line or config is wrong: exit code 2.
#[derive(Debug)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// An `anyhow::Error` that ends the program with exit code 2; arguments as for `format!`.
#[macro_export]
macro_rules! config_error {
    ($($arg:tt)*) => { ::anyhow::Error::new($crate::errors::ConfigError(format!($($arg)*))) };
}

/// A line on standard error, for progress and logs; arguments as for `format!`. A reader that has
/// gone away (`2>&1 | head`) ends no training, as `eprintln!` would.
#[macro_export]
macro_rules! note {
    ($($arg:tt)*) => {{
        let _ = ::std::io::Write::write_all(
            &mut ::std::io::stderr(),
            format!("{}\n", format_args!($($arg)*)).as_bytes(),
        );
    }};
}

/// The exit code for an error that reached `main`: 2 for a wrong command line or config, else 1.
pub fn exit_code(error: &anyhow::Error) -> i32 {
    if error.downcast_ref::<ConfigError>().is_some() { 2 } else { 1 }
}

/// The error and its causes as one sentence, joined by colons, as printed on standard error.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string().trim().replace('\n', " ");
        // Some libraries repeat their cause in their own text.
        if !parts.last().is_some_and(|last| last.ends_with(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_mark_survives_context() {
        let error = Err::<(), _>(config_error!("rate = -1 is negative"))
            .context("configs/demo.toml")
            .context("train")
            .unwrap_err();
        assert_eq!(exit_code(&error), 2);
        assert_eq!(sentence(&error), "train: configs/demo.toml: rate = -1 is negative");
        assert_eq!(exit_code(&anyhow::anyhow!("disk full")), 1);
    }
}
