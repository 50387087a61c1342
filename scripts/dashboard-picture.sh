#!/usr/bin/env bash
# Takes docs/pictures/grafana.png: the dashboard's own panels and queries, answered by a real Prometheus that scrapes a
# real streamgauge, drawn by the components that Grafana publishes (@grafana/ui, Apache-2.0) in Chromium. Needs node and
# npm; brings those components under target/grafana-picture.
#
#   scripts/dashboard-picture.sh REDIS_SERVER STREAMGAUGE [PICTURE]
#
# SECONDS_OF_DATA=300: how long data is collected.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
redis=$1 program=$2 picture=${3:-docs/pictures/grafana.png}
command -v npm >/dev/null || {
    echo "dashboard-picture: there is no npm: install Node.js" >&2
    exit 1
}
scripts/peers.sh chromium >&2
scripts/peers.sh prometheus >&2
folder=target/grafana-picture
mkdir -p "$folder"
[ -f "$folder/package.json" ] || echo '{"private": true}' >"$folder/package.json"
npm install --prefix "$folder" --no-audit --no-fund --ignore-scripts --loglevel error \
    @grafana/data@13.2.3 @grafana/ui@13.2.3 esbuild@0.28.2 >&2
cp scripts/dashboard-picture/page.jsx "$folder/"
(cd "$folder" && npx esbuild page.jsx --bundle --minify --format=esm --jsx=automatic --outfile=page.js \
    --loader:.svg=dataurl --loader:.ttf=dataurl --loader:.woff2=dataurl --define:process.env.NODE_ENV='"production"' \
    --log-level=error)
node scripts/dashboard-picture/picture.mjs "$redis" "$program" target/peers/prometheus target/peers/chromium "$folder" "$picture"
