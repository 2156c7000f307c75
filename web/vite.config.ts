// What `npm run build` makes: a few files of fixed names, which the binary has
// in it (src/serve/page.rs). The same sources give the same bytes.
import { defineConfig } from 'vite'

export default defineConfig({
  // Relative, so that a proxy may serve it below a path of its own.
  base: './',
  publicDir: 'public',
  build: {
    target: 'es2022',
    modulePreload: { polyfill: false },
    // Nothing is inlined: the policy allows neither scripts nor styles in line.
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    rollupOptions: {
      output: {
        entryFileNames: 'assets/app.js',
        chunkFileNames: 'assets/[name].js',
        assetFileNames: 'assets/app[extname]',
      },
    },
  },
})
