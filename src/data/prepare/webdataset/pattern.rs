//! Brace patterns, in which web data sets name their archives: `train-{000..146}.tar` are 147 files,
//! `{train,val}.tar` two.

use crate::config_error;
use anyhow::{Result, ensure};

/// More files are none of one data set.
const MOST: usize = 100_000;

/// All names that `pattern` stands for, in its order.
///
/// # Errors
/// If braces do not close, or hold neither numbers nor alternatives; if there are too many names.
pub fn expand(pattern: &str) -> Result<Vec<String>> {
    let mut names = vec![String::new()];
    let mut rest = pattern;
    while let Some((before, behind)) = rest.split_once('{') {
        let Some((inside, after)) = behind.split_once('}') else {
            return Err(config_error!("{pattern}: a brace {{ is not closed"));
        };
        let choices = choices(inside, pattern)?;
        ensure!(
            names.len().saturating_mul(choices.len()) <= MOST,
            "{pattern} stands for more than {MOST} files"
        );
        let longer = |name: &String| {
            let name = format!("{name}{before}");
            choices.iter().map(move |choice| format!("{name}{choice}")).collect::<Vec<_>>()
        };
        names = names.iter().flat_map(longer).collect();
        rest = after;
    }
    names.iter_mut().for_each(|name| name.push_str(rest));
    Ok(names)
}

/// What braces hold.
fn choices(inside: &str, pattern: &str) -> Result<Vec<String>> {
    if let Some((from, to)) = inside.split_once("..") {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
            text.parse().ok().filter(|_| digits)
        };
        let (Some(first), Some(last)): (Option<u64>, Option<u64>) = (number(from), number(to))
        else {
            return Err(config_error!("{pattern}: {{{inside}}} is no range of numbers"));
        };
        ensure!(first <= last, "{pattern}: {{{inside}}} ends before it begins");
        ensure!(last - first < MOST as u64, "{pattern} stands for more than {MOST} files");
        // A zero in front fills all up to its length, as in a shell.
        let padded = [from, to].iter().any(|text| text.len() > 1 && text.starts_with('0'));
        let width = if padded { from.len().max(to.len()) } else { 0 };
        return Ok((first..=last).map(|number| format!("{number:0width$}")).collect());
    }
    if !inside.contains(',') || inside.contains('{') {
        return Err(config_error!(
            "{pattern}: {{{inside}}} is neither a range such as {{000..009}} nor alternatives such \
             as {{train,val}}"
        ));
    }
    Ok(inside.split(',').map(str::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As bash writes them out.
    #[test]
    fn patterns_are_written_out_as_a_shell_does() {
        let all = |pattern: &str| expand(pattern).unwrap().join(" ");
        assert_eq!(all("t-{08..11}.tar"), "t-08.tar t-09.tar t-10.tar t-11.tar");
        assert_eq!(all("t-{8..10}.tar"), "t-8.tar t-9.tar t-10.tar");
        assert_eq!(all("{a,b}{1..2}/x"), "a1/x a2/x b1/x b2/x");
        assert_eq!(all("plain"), "plain");
        for (wrong, word) in [
            ("a{0..3", "not closed"),
            ("a{3..1}", "ends before"),
            ("a{x..z}", "no range"),
            ("a{b}", "neither a range"),
            ("{0..99999999999}", "more than 100000"),
            ("{0..999}{0..999}", "more than 100000"),
        ] {
            assert!(expand(wrong).unwrap_err().to_string().contains(word), "{wrong}");
        }
    }
}
