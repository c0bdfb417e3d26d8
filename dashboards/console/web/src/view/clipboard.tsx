import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { Icon } from './icons.js';

/** The clipboard is closed to pages that came over plain HTTP from elsewhere; a selection still works there. */
async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement('textarea');
    area.value = text;
    area.className = 'hidden';
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}

export function Copy({ text, label }: { text: () => string; label: string }): JSX.Element {
  const [said, setSaid] = useState('');
  const run = async (): Promise<void> => {
    setSaid((await copy(text())) ? 'Copied' : 'Not allowed');
    setTimeout(() => setSaid(''), 1600);
  };
  return (
    <button type="button" class="button" onClick={() => void run()}>
      <Icon name={said === 'Copied' ? 'check' : 'copy'} />
      <span aria-live="polite">{said || label}</span>
    </button>
  );
}
