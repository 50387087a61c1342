//! The style sheet, script and icon of the pages, embedded in the program. Their paths contain a hash of their content,
//! so that browsers may cache them without a limit.

/// A file that pages refer to.
#[derive(Debug)]
pub struct Asset {
    name: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// Its content.
    pub text: &'static str,
}

/// The style sheet.
pub const STYLE: Asset = Asset {
    name: "page.css",
    content_type: "text/css; charset=utf-8",
    text: include_str!("assets/page.css"),
};

/// The script. Every page works without it.
pub const SCRIPT: Asset = Asset {
    name: "page.js",
    content_type: "text/javascript; charset=utf-8",
    text: include_str!("assets/page.js"),
};

/// The icon.
pub const ICON: Asset =
    Asset { name: "icon.svg", content_type: "image/svg+xml", text: include_str!("assets/icon.svg") };

impl Asset {
    /// Returns its path, without a leading slash.
    pub fn path(&self) -> String {
        format!("assets/{:08x}/{}", crc32fast::hash(self.text.as_bytes()), self.name)
    }

    /// Returns the asset at a path with a leading slash; `None` for the hash of another version.
    pub fn at(path: &str) -> Option<&'static Self> {
        [&STYLE, &SCRIPT, &ICON]
            .into_iter()
            .find(|asset| path.strip_prefix('/') == Some(asset.path().as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asset_is_found_at_its_path_and_no_other() {
        for asset in [&STYLE, &SCRIPT, &ICON] {
            let path = format!("/{}", asset.path());
            assert_eq!(Asset::at(&path).map(|found| found.name), Some(asset.name));
            assert!(Asset::at(&path[1..]).is_none() && Asset::at(&format!("{path}x")).is_none());
        }
        assert!(Asset::at("/assets/00000000/page.css").is_none());
    }
}
