// A light reading of CEL for colouring: no grammar, only its words.

export type CelKind = 'field' | 'word' | 'call' | 'string' | 'number' | 'operator' | 'plain';

export interface CelToken {
  kind: CelKind;
  text: string;
}

const pattern =
  /(?<string>[rRbB]{0,2}(?:"(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'?))|(?<number>\d[\w.]*)|(?<word>\b(?:true|false|null|in)\b)|(?<call>[A-Za-z_]\w*(?=\s*\())|(?<field>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*(?!\s*\(|\w))*)|(?<operator>&&|\|\||[<>=!]=?|[-+*/%?:])|(?<plain>\s+|.)/gs;

export function readCel(text: string): CelToken[] {
  const out: CelToken[] = [];
  for (const match of text.matchAll(pattern)) {
    const [kind, found] = Object.entries(match.groups ?? {}).find(([, v]) => v !== undefined) ?? ['plain', match[0]];
    const last = out[out.length - 1];
    if (last?.kind === 'plain' && kind === 'plain') last.text += found;
    else out.push({ kind: kind as CelKind, text: found });
  }
  return out;
}
