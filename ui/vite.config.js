import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

// The built page is committed and embedded in the server, so that `cargo build` needs no Node. Its files have stable
// names: the server answers them with a digest as the ETag, and a diff of the build stays readable.
export default defineConfig({
  plugins: [svelte()],
  base: '/assets/',
  build: {
    outDir: '../crates/zimage-server/assets',
    // The style sheet of /docs lies there too, and is written by hand.
    emptyOutDir: false,
    assetsDir: '',
    assetsInlineLimit: 0,
    modulePreload: false,
    target: 'es2022',
    rollupOptions: {
      output: {
        entryFileNames: 'app.js',
        chunkFileNames: '[name].js',
        assetFileNames: 'app[extname]',
        codeSplitting: false,
      },
    },
  },
  // For work on the page: `zimage serve` beside `npx vite`.
  server: {
    proxy: Object.fromEntries(
      ['/api', '/files', '/thumbnails'].map((path) => [path, process.env.ZIMAGE_URL ?? 'http://127.0.0.1:7860']),
    ),
  },
});
