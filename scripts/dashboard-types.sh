#!/usr/bin/env bash
# Checks dashboards/streamgauge.json against Grafana's published types of dashboards and panels. Needs node and npm;
# brings @grafana/schema and typescript under target/grafana-types. Run it after a change of the generator; the tests do
# not need it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v npm >/dev/null || {
    echo "dashboard-types: there is no npm: install Node.js" >&2
    exit 1
}
folder=target/grafana-types
mkdir -p "$folder"
[ -f "$folder/package.json" ] || echo '{"private": true}' >"$folder/package.json"
npm install --prefix "$folder" --no-audit --no-fund --loglevel error @grafana/schema@13.2.3 typescript@5.9.3 >&2

node - "$folder" <<'PROGRAM'
const fs = require("fs");
const folder = process.argv[2];
const dashboard = JSON.parse(fs.readFileSync("dashboards/streamgauge.json", "utf8"));
const types = "./node_modules/@grafana/schema/dist/types/raw";
const panels = {stat: "stat", timeseries: "timeseries", "state-timeline": "statetimeline", table: "table"};
// What the data source adds to what every dashboard has, and what belongs to a file to import.
const added = {annotations: ["expr", "step", "titleFormat", "textFormat"], templating: ["definition"]};
const lines = [`import type * as raw from "${types}/dashboard/x/types.gen";`];
for (const name of Object.values(panels)) {
    lines.push(`import type * as ${name} from "${types}/composable/${name}/panelcfg/x/types.gen";`);
}
// In JSON the members of an enumeration are their values.
lines.push("type Plain<T> = T extends string ? `${T}` : T extends number ? `${T}` extends `${infer N extends number}` ? N : number : T extends boolean ? boolean : T extends Array<infer U> ? Array<Plain<U>> : T extends object ? {[K in keyof T]: Plain<T[K]>} : T;");
lines.push("type Defaults<F> = Omit<Plain<raw.FieldConfig>, 'custom'> & {custom: Partial<Plain<F>>};");
lines.push("type Panel<O, F> = Omit<Plain<raw.Panel>, 'options' | 'fieldConfig'> & {options: Plain<O>, fieldConfig: {defaults: Defaults<F>, overrides: Plain<raw.FieldConfigSource>['overrides']}};");
const check = (type, value) => lines.push(`(${JSON.stringify(value)}) satisfies ${type};`);
const visit = (panel) => {
    if (panel.type === "row") {
        panel.panels.forEach(visit);
        check("Plain<raw.RowPanel>", {...panel, panels: []});
    } else {
        const name = panels[panel.type];
        check(`Panel<${name}.Options, ${panel.type === "stat" ? "{}" : `${name}.FieldConfig`}>`, panel);
    }
};
dashboard.panels.forEach(visit);
for (const [part, keys] of Object.entries(added)) {
    dashboard[part].list.forEach((item) => keys.forEach((key) => delete item[key]));
}
const {__inputs, __requires, panels: all, ...rest} = dashboard;
check("Omit<Plain<raw.Dashboard>, 'panels'>", rest);
fs.writeFileSync(`${folder}/dashboard.ts`, lines.join("\n"));
console.error(`dashboard-types: ${lines.length - 8} parts`);
PROGRAM
cd "$folder"
npx tsc --noEmit --strict --skipLibCheck --moduleResolution bundler --module esnext --target es2022 dashboard.ts
echo "dashboard-types: as Grafana has them" >&2
