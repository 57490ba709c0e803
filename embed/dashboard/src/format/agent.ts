// What a browser says it is, in the words of people. It may say anything: this is for the eye, and decides nothing.
const browsers: [RegExp, string][] = [
  [/\bEdgA?\/(\d+)/, 'Edge'],
  [/\bOPR\/(\d+)/, 'Opera'],
  [/\b(?:Firefox|FxiOS)\/(\d+)/, 'Firefox'],
  [/\b(?:HeadlessChrome|Chrome|CriOS)\/(\d+)/, 'Chrome'],
  [/\bVersion\/(\d+)\S* .*\bSafari\//, 'Safari'],
]
const systems: [RegExp, string][] = [
  [/\biPhone\b/, 'iPhone'],
  [/\biPad\b/, 'iPad'],
  [/\bAndroid\b/, 'Android'],
  [/\bWindows\b/, 'Windows'],
  [/\bCrOS\b/, 'ChromeOS'],
  [/\bMac OS X\b/, 'macOS'],
  [/\bLinux\b/, 'Linux'],
]

/** A User-Agent header for people: `Firefox 144 on Linux`, `curl 8.5.0`; what is none of a browser's as it is. */
export function agent(header: string | null): string {
  if (!header) return 'A program that does not say its name'
  const system = systems.find(([pattern]) => pattern.test(header))?.[1]
  for (const [pattern, name] of browsers) {
    const version = pattern.exec(header)?.[1]
    if (version) return system ? `${name} ${version} on ${system}` : `${name} ${version}`
  }
  const program = /^([\w.-]+)\/(\d[\w.-]*)/.exec(header)
  return program && program[1] !== 'Mozilla' ? `${program[1]} ${program[2]}` : header
}
