// A worker for streamgauge: one JSON line in, one answer out. Entries are handled at the same time, as many as
// --concurrency permits.
//
// redis-cli XADD orders '*' amount 3
// streamgauge consume --redis-url redis://localhost:6379 --stream orders --group billing --concurrency 16 \
//   --worker 'node examples/worker.js'

const readline = require('node:readline');

class Rejected extends Error {}

async function handle(entry) {
  // Fields are an object, or a list of pairs if a name occurs twice.
  const fields = Array.isArray(entry.fields) ? Object.fromEntries(entry.fields) : entry.fields;
  if (fields.amount === undefined) throw new Rejected('the entry has no amount');
  if (Number.isNaN(Number(fields.amount))) throw new Error('the amount is not a number');
  // Do the work here, so that doing it twice does no harm.
}

// Standard output is for answers only; use console.error for the log.
const answer = (text) => process.stdout.write(text.replaceAll('\n', ' ') + '\n');

readline.createInterface({ input: process.stdin, crlfDelay: Infinity }).on('line', async (line) => {
  const entry = JSON.parse(line);
  try {
    await handle(entry);
    answer(`ok ${entry.id}`);
  } catch (error) {
    answer(`${error instanceof Rejected ? 'dead' : 'retry'} ${entry.id} ${error.message}`);
  }
});
