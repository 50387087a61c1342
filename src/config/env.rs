//! Substitutes `${NAME}` in scalars. Only [`of_process`] reads the environment of the process. Values may be secrets
//! and never become part of a message.

use std::env;

use crate::alert::template::is_label_name;

/// Looks up an environment variable.
pub type Environment<'e> = dyn Fn(&str) -> Option<String> + 'e;

/// Looks up a variable of this process. One that is not UTF-8 counts as not set.
pub fn of_process(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// Replaces `${NAME}` and `${NAME:-default}` by the value of the variable, once, and `$${` by `${`. As in a shell, the
/// default also replaces an empty value. Any other `$` stays.
///
/// # Errors
///
/// A message that does not quote the text.
pub(super) fn substitute(text: &str, environment: &Environment<'_>) -> Result<String, String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            result.push_str(before);
            result.push_str("${");
            rest = after;
            continue;
        }
        let Some((inside, behind)) = after.split_once('}') else {
            return Err(r#""${" without "}"; expected ${NAME}, or $${ for a literal ${"#.to_owned());
        };
        result.push_str(before);
        result.push_str(&value_of(inside, environment)?);
        rest = behind;
    }
    result.push_str(rest);
    Ok(result)
}

fn value_of(inside: &str, environment: &Environment<'_>) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_label_name(name) {
        let message = r#""${" without the name of a variable; expected ${NAME}, or $${ for a literal ${"#;
        return Err(message.to_owned());
    }
    match (environment(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            Err(format!("environment variable {name} is not set; set it, or write ${{{name}:-default}}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::substitute;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("cache".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_once() {
        for (text, result) in [
            ("plain", "plain"),
            ("", ""),
            ("${HOST}", "cache"),
            ("redis://${HOST}:${PORT:-6379}/0", "redis://cache:6379/0"),
            ("${HOST:-other}", "cache"),
            ("${EMPTY}", ""),
            ("${EMPTY:-other}", "other"),
            ("${UNSET:-}", ""),
            ("${UNSET:-a:-b}", "a:-b"),
            ("${NESTED}", "${HOST}"),
            ("$${HOST}", "${HOST}"),
            ("$$${HOST}", "$${HOST}"),
            ("$HOST $ $$", "$HOST $ $$"),
            ("}${HOST}}", "}cache}"),
        ] {
            assert_eq!(substitute(text, &environment).as_deref(), Ok(result), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_quoting_the_text() {
        let unclosed = r#""${" without "}"; expected ${NAME}, or $${ for a literal ${"#;
        let nameless = r#""${" without the name of a variable; expected ${NAME}, or $${ for a literal ${"#;
        let unset = "environment variable UNSET is not set; set it, or write ${UNSET:-default}";
        for (text, message) in [
            ("hunter2${HOST", unclosed),
            ("${}hunter2", nameless),
            ("${hunter-2}", nameless),
            ("${2HOST}", nameless),
            ("hunter2${UNSET}", unset),
        ] {
            assert_eq!(substitute(text, &environment), Err(message.to_owned()), "{text}");
        }
    }
}
