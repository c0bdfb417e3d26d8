// What the browser tests stand on: the mock node, a browser, and a page that
// notes everything that goes wrong in it.
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const scratch = mkdtempSync(join(tmpdir(), 'weir-console-'));
const processes = [];
let context;

export function build() {
  execFileSync('go', ['build', '-o', join(scratch, 'mock'), '.'], { cwd: fileURLToPath(new URL('../../mock', import.meta.url)), stdio: 'inherit' });
}

/** Starts a mock node in the given state; resolves to its address. */
export async function mock(state) {
  const child = spawn(join(scratch, 'mock'), ['-state', state], { stdio: ['ignore', 'pipe', 'inherit'] });
  processes.push(child);
  return new Promise((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the mock ended with ${code}`)));
    child.stdout.once('data', (line) => resolve(String(line).trim()));
  });
}

export async function browser() {
  context = await chromium.launchPersistentContext(join(scratch, 'profile'), {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  context.setDefaultTimeout(15_000);
}

export async function stop() {
  await context?.close();
  for (const child of processes) {
    child.removeAllListeners('exit');
    child.kill();
  }
  rmSync(scratch, { recursive: true, force: true });
}

/** Opens a page; page.faults gathers errors, policy violations and requests to elsewhere. */
export async function open(url, { width = 1440, height = 900, dark = false } = {}) {
  const page = await context.newPage();
  page.faults = [];
  page.on('console', (m) => ['error', 'warning'].includes(m.type()) && page.faults.push(`${m.type()}: ${m.text()}`));
  page.on('pageerror', (err) => page.faults.push(`exception: ${err.stack}`));
  page.on('request', (r) => new URL(r.url()).origin !== new URL(url).origin && page.faults.push(`request to ${r.url()}`));
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`));
    window.shift = 0;
    new PerformanceObserver((list) => {
      for (const e of list.getEntries()) if (!e.hadRecentInput) window.shift += e.value;
    }).observe({ type: 'layout-shift', buffered: true });
  });
  await page.setViewportSize({ width, height });
  await page.emulateMedia({ colorScheme: dark ? 'dark' : 'light' });
  await page.goto(url);
  await page.locator('.connection.is-live').waitFor();
  return page;
}

/** Also after a test that failed: a browser keeps six connections to a server, and each page holds one. */
export async function closePages() {
  for (const page of context?.pages() ?? []) await page.close();
}
