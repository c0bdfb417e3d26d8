import { readFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { defineConfig } from 'vite';

// The theme must be known before the first paint, and the page allows no inline
// script: src/boot.js is sent as a small classic script of its own.
const bootSource = readFileSync(new URL('src/boot.js', import.meta.url), 'utf8');
const bootName = `assets/boot-${createHash('sha256').update(bootSource).digest('hex').slice(0, 8)}.js`;

export default defineConfig({
  base: '/',
  plugins: [
    {
      name: 'boot-script',
      transformIndexHtml: () => [{ tag: 'script', attrs: { src: `/${bootName}` }, injectTo: 'head-prepend' }],
      generateBundle() {
        this.emitFile({ type: 'asset', fileName: bootName, source: bootSource });
      },
    },
  ],
  build: {
    outDir: '../dist',
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
});
