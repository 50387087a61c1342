// Takes a picture of dashboards/streamgauge.json: starts a Redis with a shop's load, streamgauge and Prometheus, all on
// loopback, sends the queries of the dashboard, and has Chromium draw the answers with page.jsx. See
// scripts/dashboard-picture.sh.
import {spawn} from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import {setTimeout as sleep} from "node:timers/promises";

const [redis, program, prometheus, chromium, bundle, picture] = process.argv.slice(2).map(name => path.resolve(name));
const SECONDS = Number(process.env.SECONDS_OF_DATA ?? 300);
const ROWS = ["What is wrong now", "Lag", "In, out, and time to drain"];
const WIDTH = 1600, HEIGHT = 1222;

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "streamgauge-picture-"));
const children = [];
const end = () => children.forEach(child => child.kill("SIGTERM"));
process.on("exit", () => { end(); fs.rmSync(folder, {recursive: true, force: true}); });
["SIGINT", "SIGTERM"].forEach(signal => process.on(signal, () => process.exit(1)));

const start = (command, args) => {
    const log = fs.openSync(path.join(folder, `${path.basename(command)}.log`), "a");
    const child = spawn(command, args, {cwd: folder, stdio: ["ignore", log, log]});
    child.on("exit", code => { if (code) { console.error(fs.readFileSync(path.join(folder, `${path.basename(command)}.log`), "utf8")); process.exit(1); } });
    children.push(child);
};
const finished = child => new Promise(resolve => {
    let stderr = "";
    child.stderr.on("data", text => { stderr += text; });
    child.on("exit", status => resolve({status, stderr}));
    children.push(child);
});
const freePort = () => new Promise(resolve => {
    const server = net.createServer().listen(0, "127.0.0.1", () => { const {port} = server.address(); server.close(() => resolve(port)); });
});
const until = async (what, check) => {
    for (let tries = 0; tries < 150; tries++) {
        try { if (await check()) return; } catch { /* not yet */ }
        await sleep(200);
    }
    throw new Error(`dashboard-picture: ${what}: not after 30 s`);
};
const ok = async url => (await fetch(url)).ok;

const [redisPort, ownPort, prometheusPort] = [await freePort(), await freePort(), await freePort()];
start(redis, ["--port", redisPort, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
const connect = () => new Promise((resolve, reject) => { const socket = net.connect(redisPort, "127.0.0.1", () => resolve(socket)); socket.on("error", reject); });
await until("Redis answers", async () => { (await connect()).destroy(); return true; });
const client = await connect();
client.resume();
const run = (...commands) => client.write(commands.map(command => `${command}\r\n`).join(""));

// One group for each condition, and some that are well.
const groups = {orders: ["billing", "mail", "audit", "reports", "search"], payments: ["ledger"], thumbnails: ["resize"], clicks: ["analytics"]};
for (const [stream, names] of Object.entries(groups)) names.forEach(name => run(`XGROUP CREATE ${stream} ${name} 0 MKSTREAM`));
run("XADD orders * f v", "XREADGROUP GROUP audit audit-1 COUNT 1 STREAMS orders >", "XADD thumbnails * f v", "XADD thumbnails * f v",
    "XREADGROUP GROUP resize resize-2 COUNT 2 STREAMS thumbnails >");
const read = (group, stream, count) => `XREADGROUP GROUP ${group} ${group}-1 COUNT ${count} NOACK STREAMS ${stream} >`;
// Trimmed faster than it is read, at any moment.
const click = () => { for (let n = 0; n < 5; n++) run("XADD clicks MAXLEN = 400 * f v"); };
const step = at => {
    const wave = [1, 2, 4, 7, 4, 2][Math.floor(at / 10) % 6];
    for (let n = 0; n < wave + 4; n++) run(`XADD orders * step ${at} n ${n}`);
    run("XADD payments * f v", "XADD thumbnails * f v");
    click();
    run(read("billing", "orders", 1000), read("mail", "orders", 4), read("ledger", "payments", 100), read("resize", "thumbnails", 100));
    if (at % 12 === 0) run(read("reports", "orders", 80));
    run("XREADGROUP GROUP audit audit-1 STREAMS orders 0");
};

fs.writeFileSync(path.join(folder, "streamgauge.yaml"), `web: {listen: "127.0.0.1:${ownPort}"}
poll: {interval: 1s}
status: {window: 20s}
targets: [{name: shop, url: "redis://127.0.0.1:${redisPort}"}]
`);
start(program, ["serve", "--config", "streamgauge.yaml"]);
fs.writeFileSync(path.join(folder, "prometheus.yml"), `global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs: [{job_name: streamgauge, honor_labels: true, static_configs: [{targets: ["127.0.0.1:${ownPort}"]}]}]
`);
start(prometheus, ["--config.file=prometheus.yml", "--storage.tsdb.path=data", `--web.listen-address=127.0.0.1:${prometheusPort}`]);
const api = `http://127.0.0.1:${prometheusPort}`;
await until("Prometheus is ready", () => ok(`${api}/-/ready`));
await until("streamgauge is ready", () => ok(`http://127.0.0.1:${ownPort}/-/ready`));

const began = Date.now() / 1000;
console.error(`dashboard-picture: collecting data for ${SECONDS} s`);
for (let at = 0; at < 2 * SECONDS; at++) {
    step(at);
    await sleep(250);
    run(read("analytics", "clicks", 4));
    click();
    await sleep(Math.max(0, (began + (at + 1) / 2) * 1000 - Date.now()));
}
const to = Math.floor(Date.now() / 1000) - 1, from = to - SECONDS + 10;

const dashboard = JSON.parse(fs.readFileSync("dashboards/streamgauge.json", "utf8"));
const variables = {__rate_interval: "20s", __range: `${to - from}s`, target: ".*", stream: ".*", group: ".*", top: "10"};
const answer = async (panel, target) => {
    const step = Math.max(1, Math.ceil((to - from) / (panel.maxDataPoints ?? 360)));
    const query = Object.entries({...variables, __interval: `${step}s`}).sort(([one], [other]) => other.length - one.length)
        .reduce((text, [name, value]) => text.replaceAll(`$${name}`, value), target.expr);
    const url = target.instant ? `${api}/api/v1/query?time=${to}` : `${api}/api/v1/query_range?start=${from}&end=${to}&step=${step}`;
    const reply = await (await fetch(`${url}&query=${encodeURIComponent(query)}`)).json();
    if (reply.status !== "success") throw new Error(`dashboard-picture: ${panel.title}: ${reply.error}: ${query}`);
    return {target, result: reply.data.result};
};
let row = "";
const panels = [];
for (const panel of dashboard.panels) {
    if (panel.type === "row") row = panel.title;
    if (!ROWS.includes(row)) continue;
    panels.push(panel.type === "row" ? panel : {...panel, answers: await Promise.all(panel.targets.map(target => answer(panel, target)))});
}
const data = JSON.stringify({panels, from: from * 1000, to: to * 1000, width: WIDTH - 16}).replaceAll("<", "\\u003c");
fs.writeFileSync(path.join(folder, "page.html"), `<!doctype html><meta charset="utf-8"><title>dashboard</title>
<style>body{margin:0}</style><link rel="stylesheet" href="page.css"><div id="dashboard"></div>
<script>window.picture = ${data};</script><script type="module" src="page.js"></script>`);
// Grafana's icons are requested as from a Grafana.
const types = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"};
const fileOf = url => url.startsWith("/public/build/img/") ? path.join(bundle, "node_modules/@grafana/ui/dist/public", path.normalize(url.slice("/public/build".length)))
    : path.join(url === "/page.html" ? folder : bundle, path.basename(url));
const server = http.createServer((request, response) => {
    const file = fileOf(request.url.split("?")[0]);
    if (!fs.existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, {"content-type": types[path.extname(file)] ?? "application/octet-stream"}).end(fs.readFileSync(file));
});
await new Promise(resolve => server.listen(0, "127.0.0.1", resolve));
const shot = await finished(spawn(chromium, ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
    "--disable-dev-shm-usage", `--user-data-dir=${folder}/profile`, `--window-size=${WIDTH},${HEIGHT}`, "--virtual-time-budget=20000",
    `--screenshot=${picture}`, `http://127.0.0.1:${server.address().port}/page.html`], {stdio: ["ignore", "ignore", "pipe"]}));
if (shot.status !== 0 || !fs.existsSync(picture)) throw new Error(`dashboard-picture: no picture: ${shot.stderr}`);
console.error(`dashboard-picture: ${picture}, ${fs.statSync(picture).size} bytes`);
process.exit(0);
