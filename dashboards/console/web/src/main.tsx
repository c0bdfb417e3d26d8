import { render, type JSX } from 'preact';
import 'uplot/dist/uPlot.min.css';
import './style/tokens.css';
import './style/frame.css';
import './style/alerts.css';
import './style/tables.css';
import { startClock } from './model/clock.js';
import { startLive, connection } from './model/live.js';
import { route } from './model/route.js';
import { AlertsView, onAlertsKey } from './view/alerts.js';
import { Brand, Nav, Status, Trouble } from './view/header.js';
import { RulesView } from './view/rules.js';
import { SqlView } from './view/sql.js';
import { StreamsView } from './view/streams.js';
import { Strip } from './view/strip.js';

function Page(): JSX.Element {
  const view = route.value.view;
  return (
    <div class={`frame ${connection.value.state === 'broken' ? 'is-stale' : ''}`}>
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); document.getElementById('main')?.focus(); }}>Skip to the content</a>
      <header class="top">
        <Brand />
        <Nav />
        <Status />
      </header>
      <div>
        <Trouble />
        <Strip />
      </div>
      <main id="main" tabIndex={-1}>
        {view === 'alerts' && <AlertsView />}
        {view === 'streams' && <StreamsView />}
        {view === 'rules' && <RulesView />}
        {view === 'sql' && <SqlView />}
      </main>
    </div>
  );
}

function isTyping(target: EventTarget | null): target is HTMLInputElement | HTMLTextAreaElement {
  return target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement;
}

addEventListener('keydown', (e) => {
  if (e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey) return;
  if (isTyping(e.target)) {
    // Escape empties a search, then leaves it.
    if (e.key !== 'Escape') return;
    if (e.target instanceof HTMLInputElement && e.target.value !== '') {
      e.target.value = '';
      e.target.dispatchEvent(new Event('input', { bubbles: true }));
    } else e.target.blur();
    e.preventDefault();
    return;
  }
  const search = document.querySelector<HTMLElement>('[data-search]');
  if (e.key === '/' && search) search.focus();
  else if (route.peek().view !== 'alerts' || !onAlertsKey(e)) return;
  e.preventDefault();
});

startClock();
startLive();
const app = document.getElementById('app');
if (app) render(<Page />, app);
