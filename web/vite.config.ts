// What `npm run build` makes: a few files of fixed names, which the binary has
// in it (src/serve/page.rs). The same sources give the same bytes.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { defineConfig, type Plugin } from 'vite'

/** Writes down whose work is in the files, with the licences: `shawk credits` prints it. */
function credits(): Plugin {
  return {
    name: 'credits',
    generateBundle() {
      const directories = new Set<string>()
      for (const id of this.getModuleIds()) {
        const inside = /^(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(id)?.[1]
        if (inside !== undefined && existsSync(join(inside, 'package.json'))) directories.add(inside)
      }
      const all = [...directories].map((directory) => {
        const { name, version, license, repository } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'))
        const file = readdirSync(directory).find((one) => /^licen[cs]e/i.test(one))
        if (file === undefined) throw new Error(`${name} has no licence`)
        const url: string = typeof repository === 'string' ? repository : repository.url
        const home = url.replace(/^git\+|\.git$/g, '').replace(/^(git:\/\/|git@)github\.com[/:]/, 'https://github.com/')
        return { name, version, license, home, text: readFileSync(join(directory, file), 'utf8') }
      })
      all.sort((a, b) => (a.name < b.name ? -1 : 1))
      this.emitFile({ type: 'asset', fileName: 'credits.json', source: `${JSON.stringify(all, null, 1)}\n` })
    },
  }
}

export default defineConfig({
  // Relative, so that a proxy may serve it below a path of its own.
  base: './',
  plugins: [credits()],
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
