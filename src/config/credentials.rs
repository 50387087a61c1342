//! Reads credentials: from the URL, or from `username`, `password`, `password_file` and `password_command`. No message has a
//! password or a part of one.

use crate::config::cursor::{Cursor, Section};
use crate::config::{LoginPassword, Password, password_command};
use redis_stream_core::redis_url::{CREDENTIALS_TWICE, ServerUrl, USER_WITHOUT_PASSWORD};
use redis_stream_core::secret::Secret;

pub(super) fn read(
    section: &Section<'_>,
    url_key: &Cursor<'_>,
    url: Option<&ServerUrl>,
) -> (Option<String>, Option<LoginPassword>) {
    let username_key = section.key("username");
    let password_key = section.key("password");
    let file_key = section.key("password_file");
    let command_key = section.key("password_command");
    let url_username = url.and_then(|url| url.username.clone());
    let url_password = url.and_then(|url| url.password.clone());

    let is_open_to_a_username = url.is_none_or(ServerUrl::is_open_to_a_username);
    let is_open_to_a_password = url.is_none_or(ServerUrl::is_open_to_a_password);
    for (key, is_open) in [
        (&username_key, is_open_to_a_username),
        (&password_key, is_open_to_a_password),
        (&file_key, is_open_to_a_password),
        (&command_key, is_open_to_a_password),
    ] {
        if key.is_given() && !is_open {
            key.fault(format_args!("{} {CREDENTIALS_TWICE}", url_key.label()));
        }
    }
    file_key.refuse_beside(&password_key);
    command_key.refuse_beside(&password_key);
    command_key.refuse_beside(&file_key);
    let username = username_key.filled_text("the name of an ACL user").or(url_username);
    let password = url_password
        .map(Password::Text)
        .or(password_key.filled_text("a password").map(|text| Password::Text(Secret::new(text))))
        .or(password_file(&file_key))
        .map(LoginPassword::Configured)
        .or(password_command::read_key(&command_key).map(LoginPassword::Command));
    let keys = [&password_key, &file_key, &command_key];
    let password_is_given = password.is_some() || keys.iter().any(|key| key.is_given());
    if username.is_some() && url.is_some() && !password_is_given {
        let key = if username_key.is_given() { &username_key } else { url_key };
        key.fault(USER_WITHOUT_PASSWORD);
    }
    (username, password)
}

/// Reads the file once, so that an unreadable one is found at the start; its content is not kept.
pub(super) fn password_file(key: &Cursor<'_>) -> Option<Password> {
    let password = Password::File(key.in_folder(&key.text()?.value));
    if let Err(error) = password.read() {
        key.fault(format_args!("{error}; expected a readable file"));
    }
    Some(password)
}
