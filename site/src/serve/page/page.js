'use strict';
const byId = (id) => document.getElementById(id);
const say = (id, text, level) => {
  const place = byId(id);
  place.textContent = text;
  if (level !== undefined) place.className = 'value ' + level;
};
const count = new Intl.NumberFormat('en');
const HSM = { ok: 'OK', trouble: 'TROUBLE', unreachable: 'GONE', silent: 'SILENT' };
const STATES = { good: 'RUNNING', warning: 'LOOK', stopped: 'STOPPED' };

function span(seconds) {
  if (seconds < 90) return 'now';
  if (seconds < 5400) return Math.round(seconds / 60) + ' min';
  if (seconds < 172800) return Math.round(seconds / 3600) + ' h';
  return Math.floor(seconds / 86400) + ' days';
}

const clock = (time) => time.slice(0, 16).replace('T', ' ') + ' UTC';

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function bar(part) {
  const place = element('div', 'bar');
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  svg.setAttribute('viewBox', '0 0 100 1');
  svg.setAttribute('preserveAspectRatio', 'none');
  const rect = document.createElementNS(space, 'rect');
  rect.setAttribute('width', String(100 * part));
  rect.setAttribute('height', '1');
  svg.append(rect);
  place.append(svg);
  return place;
}

function product(row, many) {
  const level = row.unspent === 0 ? 'none' : row.unspent * 10 < row.authorised ? 'low' : '';
  const card = element('article', level + (many ? ' many' : ''));
  card.append(element('h2', '', row.product));
  card.append(element('p', 'left', count.format(row.unspent)));
  card.append(bar(row.authorised ? row.unspent / row.authorised : 0));
  card.append(element('p', 'of', 'left of ' + count.format(row.authorised) + ' · ' + count.format(row.today) + ' today'));
  return card;
}

function alarm(row) {
  const place = element('p', 'alarm ' + row.level, row.message);
  if (row.hint) place.append(element('small', '', row.hint));
  return place;
}

function show(status) {
  document.body.className = status.state;
  document.title = STATES[status.state] + ' · ' + status.site + ' ' + status.vault;
  say('name', status.site + ' / ' + status.vault);
  say('state', STATES[status.state]);
  say('clock', clock(status.time));
  byId('alarms').replaceChildren(...status.alarms.slice(0, 5).map(alarm));
  const rows = status.products.map((row) => product(row, status.products.length > 3));
  byId('products').replaceChildren(...(rows.length ? rows : [element('p', 'empty', 'nothing is entitled yet')]));
  const rate = status.rate_per_minute;
  say('rate', rate < 10 ? rate.toFixed(1).replace('.0', '') : count.format(Math.round(rate)));
  const until = status.credit_seconds;
  const soon = status.credit_units === 0 || until === 0 ? 'stopped' : until !== null && until < 259200 ? 'warning' : '';
  say('credit', count.format(status.credit_units), soon);
  say('credit-until', until === null ? 'units' : 'units, for ' + span(until));
  say('trip', status.exported_seconds === null ? 'none' : span(status.exported_seconds));
  say('trip-at', status.exported ? clock(status.exported) : '');
  const hsm = status.hsm || {};
  say('hsm', HSM[hsm.state] || '?', hsm.state === 'ok' ? '' : 'warning');
  say('hsm-name', hsm.name || hsm.kind || '');
  say('stations', String(status.stations));
  say('waiting', status.waiting ? status.waiting + ' requests wait' : status.connections + (status.connections === 1 ? ' connection' : ' connections'));
}

let silent = 0;
async function refresh() {
  try {
    const answer = await fetch('/status.json', { cache: 'no-store', signal: AbortSignal.timeout(4000) });
    if (!answer.ok) throw new Error(String(answer.status));
    show(await answer.json());
    silent = 0;
  } catch (error) {
    silent += 1;
    if (silent > 2) {
      document.body.className = 'stopped silent';
      say('state', 'NO ANSWER');
    }
  }
  setTimeout(refresh, 2000);
}
refresh();
