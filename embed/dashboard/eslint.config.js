import svelte from 'eslint-plugin-svelte'
import ts from 'typescript-eslint'
import svelteConfig from './svelte.config.js'

// Numbers are written by src/format, so that each kind of them has one form.
const money = 'Amounts are written by usd(), usdInColumn() or <Usd> (src/format/money.ts).'
const shares = 'Shares and changes are written by percent(), shareOf() or changeOf() (src/format/change.ts).'
const counts = 'Counts are written by count() or plural() (src/format/count.ts).'
const text = ':not(SvelteAttribute, SvelteStyleDirective) > SvelteMustacheTag'
const numbers = [
  [counts, 'CallExpression[callee.property.name=/^(toFixed|toPrecision|toExponential|toLocaleString)$/]'],
  [counts, 'NewExpression[callee.object.name="Intl"][callee.property.name="NumberFormat"]'],
  [counts, `:matches(TemplateLiteral, ${text}) > MemberExpression[property.name=/^(length|sequence)$/]`],
  [counts, `${text} > BinaryExpression[operator=/^[-*\\/]$/]`],
  [counts, `${text} > CallExpression[callee.object.name="Math"]`],
  [
    counts,
    `${text} > MemberExpression[property.name=/(^|_)(count|total|attempts|runs|steps|uses|used|tokens|hours|days)$/]`,
  ],
  [money, 'TemplateLiteral > TemplateElement[value.raw=/\\$$/]'],
  [money, 'BinaryExpression[operator="+"] > Literal[value="$"]'],
  [shares, 'TemplateElement[value.raw=/^ %/]'],
  [shares, 'SvelteText[value=/^\\s%/]'],
].map(([message, selector]) => ({ message, selector }))

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
      'no-restricted-syntax': ['error', ...numbers],
      // Sets and maps here are replaced, not changed in place.
      'svelte/prefer-svelte-reactivity': 'off',
    },
  },
  {
    files: ['src/format/**', '**/*.test.ts', '*.ts', 'tests/**'],
    rules: { 'no-restricted-syntax': 'off' },
  },
)
