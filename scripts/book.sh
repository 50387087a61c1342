#!/usr/bin/env bash
# Builds the documentation as a book, target/book, with mdBook. README.md is its first page. Links to files that are no
# page lead to BOOK_REPOSITORY, such as https://github.com/OWNER/NAME/blob/main; by default to the files here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.4.52
repository=${BOOK_REPOSITORY:-file://$PWD}
mdbook=$(command -v mdbook || true)
if [ -z "$mdbook" ]; then
    mdbook=target/mdbook/bin/mdbook
    if [ ! -x "$mdbook" ]; then
        echo "book: installing mdbook $version in target/mdbook; this takes some minutes" >&2
        cargo install --locked --quiet --root target/mdbook --no-default-features --features search "mdbook@$version"
    fi
fi

source=target/book-source
rm -rf "$source"
cp -r docs "$source"
sed -i.bak -e 's#](\.\./README\.md)#](README.md)#' -e "s#](\.\./#]($repository/#g" "$source"/*.md
# In the README pages are below docs/; every other link that is no address and no anchor is a file.
sed -e 's#](docs/#](#g' README.md |
    sed -E -e "s#\]\(([a-z-]+\.md|pictures/)#](PAGE:\1#g" -e "s#\]\(([A-Za-z][A-Za-z0-9_./-]*)([)\#])#]($repository/\1\2#g" \
        -e 's#\]\(PAGE:#](#g' >"$source/README.md"
rm "$source"/*.bak
printf '\n## All keys\n\n```yaml\n%s\n```\n' "$(cat config.reference.yaml)" >>"$source/configuration.md"
"$mdbook" build
echo "book: target/book/index.html" >&2
