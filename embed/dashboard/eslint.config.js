import svelte from 'eslint-plugin-svelte'
import ts from 'typescript-eslint'
import svelteConfig from './svelte.config.js'

export default ts.config(
  { ignores: ['dist', 'src/api/schema.ts'] },
  ...ts.configs.recommended,
  ...svelte.configs.recommended,
  {
    files: ['**/*.svelte', '**/*.svelte.ts'],
    languageOptions: {
      parserOptions: { parser: ts.parser, extraFileExtensions: ['.svelte'], svelteConfig },
    },
    rules: {
      // Links are real paths; the router takes clicks on them (src/shell/router.svelte.ts).
      'svelte/no-navigation-without-resolve': 'off',
    },
  },
  {
    rules: {
      'max-lines': ['error', { max: 250 }],
      // Texts come from agents: they are shown as text, never parsed as markup.
      'svelte/no-at-html-tags': 'error',
      // Sets and maps here are replaced, not changed in place.
      'svelte/prefer-svelte-reactivity': 'off',
    },
  },
)
