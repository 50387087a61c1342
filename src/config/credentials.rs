//! Who we are to a server: from the URL, or from `username`, `password` and `password_file`. No message holds
//! a password or any part of one.

use std::path::Path;

use crate::config::Password;
use crate::config::password::Secret;
use crate::config::tree::{Cursor, Section};
use crate::config::url::Endpoint;

/// Username and password, each from one place.
pub(super) fn read(
    section: &Section<'_>,
    url_key: &Cursor<'_>,
    endpoint: Option<&Endpoint>,
    folder: &Path,
) -> (Option<String>, Option<Password>) {
    let username_key = section.key("username");
    let password_key = section.key("password");
    let file_key = section.key("password_file");
    let url_username = endpoint.and_then(|endpoint| endpoint.username.clone());
    let url_password = endpoint.and_then(|endpoint| endpoint.password.clone());

    for (key, is_in_the_url) in [
        (&username_key, url_username.is_some() || url_password.is_some()),
        (&password_key, url_password.is_some()),
        (&file_key, url_password.is_some()),
    ] {
        if key.is_given() && is_in_the_url {
            key.fault(format_args!("{} has credentials too; expected them in one place", url_key.label()));
        }
    }
    if password_key.is_given() && file_key.is_given() {
        file_key.fault(format_args!("{} is there too; expected one of them", password_key.label()));
    }
    let username = username(&username_key).or(url_username);
    let password =
        url_password.map(Password::Text).or(password(&password_key)).or(password_file(&file_key, folder));
    let password_is_given = password.is_some() || password_key.is_given() || file_key.is_given();
    if username.is_some() && endpoint.is_some() && !password_is_given {
        let key = if username_key.is_given() { &username_key } else { url_key };
        key.fault("a user without a password; expected a password too");
    }
    (username, password)
}

fn username(key: &Cursor<'_>) -> Option<String> {
    let name = key.text()?.value;
    if name.is_empty() {
        key.fault("empty; expected the name of an ACL user");
    }
    Some(name)
}

fn password(key: &Cursor<'_>) -> Option<Password> {
    let password = key.text()?.value;
    if password.is_empty() {
        key.fault("empty; expected a password");
    }
    Some(Password::Text(Secret::new(password)))
}

/// The file is read once here, so that one that cannot be read is found out now; its text is not kept.
fn password_file(key: &Cursor<'_>, folder: &Path) -> Option<Password> {
    let password = Password::File(folder.join(key.text()?.value));
    if let Err(error) = password.read() {
        key.fault(format_args!("{error}; expected a readable file"));
    }
    Some(password)
}
