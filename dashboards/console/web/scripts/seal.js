// Finishes a build: compresses what compresses well, and writes dist/MANIFEST,
// by which a Go test sees whether dist/ is what the sources build (it needs no
// Node). The test computes the same hashes; keep the two alike.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { gzipSync } from 'node:zlib';

const root = new URL('..', import.meta.url).pathname;
const dist = join(root, '../dist');

/** What a build reads, beside node_modules, which the lock file pins. */
const inputs = ['index.html', 'package-lock.json', 'package.json', 'scripts', 'src', 'tsconfig.json', 'vite.config.js'];

const sha256 = (data) => createHash('sha256').update(data).digest('hex');

function walk(base, name) {
  const full = join(base, name);
  if (!statSync(full).isDirectory()) return [name];
  return readdirSync(full).flatMap((entry) => walk(base, posix.join(name, entry)));
}

const byBytes = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b));
const sources = inputs.flatMap((name) => walk(root, name)).sort(byBytes);
const sourceHash = sha256(sources.map((name) => `${sha256(readFileSync(join(root, name)))}  ${name}\n`).join(''));

// The licences of what the page is made of travel with it.
const parts = ['preact', '@preact/signals', '@preact/signals-core', 'uplot', '@fontsource/ibm-plex-sans', '@fontsource/ibm-plex-mono'];
const licences = parts.map((name) => {
  const folder = join(root, 'node_modules', name);
  const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  return `${name} ${version}\n\n${readFileSync(join(folder, 'LICENSE'), 'utf8').trim()}\n`;
});
writeFileSync(join(dist, 'licences.txt'), licences.join(`\n${'-'.repeat(72)}\n\n`));

let script = 0;
for (const name of walk(dist, '.')) {
  if (!/\.(html|js|css|svg|txt)$/.test(name)) continue;
  const plain = readFileSync(join(dist, name));
  const zipped = gzipSync(plain, { level: 9 });
  if (zipped.length < plain.length * 0.9) writeFileSync(join(dist, `${name}.gz`), zipped);
  if (name.endsWith('.js')) script += zipped.length;
}

const budget = 120 * 1024;
console.log(`scripts: ${(script / 1024).toFixed(1)} KiB compressed, of ${budget / 1024} allowed`);
if (script >= budget) process.exit(1);

rmSync(join(dist, 'MANIFEST'), { force: true });
const built = walk(dist, '.').sort(byBytes);
const lines = built.map((name) => `${sha256(readFileSync(join(dist, name)))}  ${name}`);
writeFileSync(join(dist, 'MANIFEST'), `sources ${sourceHash}\n${lines.join('\n')}\n`);
