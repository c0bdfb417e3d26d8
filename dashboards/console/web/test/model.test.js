// The page's own logic, without a browser. `npm test` compiles it first.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readCel } from '../node_modules/.test/model/cel.js';
import { Exact, parseExact, plain } from '../node_modules/.test/model/exact.js';
import { deliveryState, haystack, matches, parseFilter, serverParams, toggled, withField } from '../node_modules/.test/model/filter.js';
import * as format from '../node_modules/.test/model/format.js';
import { sampleEvent, sampleRule } from '../node_modules/.test/model/sample.js';

const alert = {
  id: 't/0/7/card-testing', time: '2018-04-01T00:00:31.5Z', rule: 'card-testing', stream: 'transactions', key: 'A 17', severity: 'high', score: 60, action: 'review',
  message: 'card A 17 tested', values: { 'tx.amount': '312.40', 'last("1h").count()': 5 }, topic: 't', partition: 0, offset: 7,
};
const passes = (query) => matches(parseFilter(query), alert, haystack(alert));

test('a filter finds by field and by word', () => {
  for (const query of ['', 'rule:card-testing', 'key:"A 17"', 'severity:high,critical', 'TESTED', 'tx.amount 312.40', 'rule:card-testing review', 'delivery:pending', 'last("1h").count()', 'amount = 312']) {
    assert.ok(passes(query), query);
  }
  for (const query of ['rule:card', 'key:A', 'severity:low', 'nothing', 'tested rule:other', 'delivery:failed', 'rule:']) assert.ok(!passes(query), query);
});

test('a filter with a name that is none is text', () => {
  assert.deepEqual(parseFilter('http://x foo:bar').words, ['http://x', 'foo:bar']);
});

test('fields are switched on and off in the box', () => {
  assert.equal(toggled('', 'severity', 'high'), 'severity:high');
  assert.equal(toggled('severity:high', 'severity', 'low'), 'severity:high,low');
  assert.equal(toggled('severity:high,low tested', 'severity', 'high'), 'severity:low tested');
  assert.equal(toggled('rule:a', 'rule', 'b'), 'rule:b');
  assert.equal(toggled('rule:a x', 'rule', 'a'), 'x');
  assert.equal(withField('', 'key', ['say "A 17"\\']), 'key:"say \\"A 17\\"\\\\"');
  for (const key of ['a', 'A 17', '"', '\\', 'a:b', ' ', 'é"x']) assert.deepEqual(parseFilter(withField('other', 'key', [key])).fields.key, [key]);
});

test('the server gets what it can filter by', () => {
  assert.deepEqual(serverParams(parseFilter('rule:a key:"b c" severity:high stream:s words')), { rule: 'a', key: 'b c', severity: 'high', stream: 's' });
  assert.deepEqual(serverParams(parseFilter('severity:high,low rule:a rule:b')), {});
  assert.deepEqual(serverParams(parseFilter('severity:huge')), {});
});

test('a delivery is as good as its worst receiver', () => {
  const d = (receiver, outcome) => ({ receiver, outcome, time: '', attempt: 1, status: 0 });
  assert.equal(deliveryState({}), 'pending');
  assert.equal(deliveryState({ deliveries: [d('a', 'retry'), d('a', 'delivered')] }), 'delivered');
  assert.equal(deliveryState({ deliveries: [d('a', 'delivered'), d('b', 'retry')] }), 'retrying');
  assert.equal(deliveryState({ deliveries: [d('a', 'failed'), d('b', 'delivered')] }), 'failed');
});

test('numbers keep their text', () => {
  const read = parseExact('{"a":9007199254740993,"b":12.50,"c":1e2,"d":7,"e":"12.50","f":0.1}');
  assert.equal(plain(read.d), '7');
  assert.equal(plain(read.e), '12.50');
  assert.equal(plain(read.f), '0.1');
  if (typeof JSON.rawJSON !== 'function') return; // this Node does not tell a number's text
  assert.ok(read.a instanceof Exact);
  assert.equal(plain(read.a), '9007199254740993');
  assert.equal(plain(read.b), '12.50');
  assert.equal(JSON.stringify(read), '{"a":9007199254740993,"b":12.50,"c":1e2,"d":7,"e":"12.50","f":0.1}');
});

test('times are UTC and keep their digits', () => {
  assert.equal(format.fullTime('2024-08-08T23:54:16.207640365Z'), '2024-08-08 23:54:16.207640365');
  assert.equal(format.clockOf('2018-04-01T00:00:31Z'), '00:00:31.000');
  assert.equal(format.clockOf('2018-04-01T02:00:31.5+02:00'), '00:00:31.500');
  assert.equal(format.clockOf('2018-04-01T00:00:31.999Z', 0), '00:00:31');
});

test('spans and counts read well', () => {
  assert.deepEqual([0, 999, 59_999, 3_600_000, 90_000_000, 8.6 * 365.25 * 864e5].map(format.ago), ['0 s', '0 s', '59 s', '1 h', '1 d', '8.6 y']);
  assert.deepEqual([41, 1500, 12_000, 300_000].map(format.span), ['41 ms', '1.5 s', '12 s', '5 min']);
  assert.deepEqual([0, 0.4, 9.94, 9.96, 4180.4, 1_754_155].map(format.rate), ['0', '0.4', '9.9', '10', '4,180', '1,754,155']);
  assert.deepEqual([0, 999, 1000, 40_960, 1.8e9].map(format.bytes), ['0 B', '999 B', '1.00 kB', '41.0 kB', '1.80 GB']);
  assert.deepEqual([0, 0.5, 150, 1500, 2e6].map(format.short), ['0', '0.5', '150', '1.5k', '2M']);
  assert.equal(format.place('/srv/weir/rules/cards.yaml', 18), 'rules/cards.yaml:18');
  assert.equal(format.plural(1, 'stream') + format.plural(2000, 'reply', 'replies'), '1 stream2,000 replies');
});

test('an expression is read into words and loses nothing', () => {
  const text = 'tx.amount >= 2.5 &&\n!(tx.m in list("a \\" b")) && last(\'1h\').by(tx.card).count() > 3 ? true : x';
  const tokens = readCel(text);
  assert.equal(tokens.map((t) => t.text).join(''), text);
  const of = (kind) => tokens.filter((t) => t.kind === kind).map((t) => t.text);
  assert.deepEqual(of('field'), ['tx.amount', 'tx.m', 'tx.card', 'x']);
  assert.deepEqual(of('call'), ['list', 'last', 'by', 'count']);
  assert.deepEqual(of('string'), ['"a \\" b"', "'1h'"]);
  assert.deepEqual(of('number'), ['2.5', '3']);
  assert.deepEqual(of('word'), ['in', 'true']);
  for (const odd of ['', '"open', '\u{1f600} €', '((', 'a.b.', '1..2']) assert.equal(readCel(odd).map((t) => t.text).join(''), odd);
});

test('a first event and rule fit what a stream declares', () => {
  const now = new Date('2026-01-31T23:59:01.5Z');
  const fields = [
    { name: 'id', type: 'string' }, { name: 'ts', type: 'timestamp', from: 'TX_DATETIME', layout: '%Y-%m-%d %H:%M:%S' }, { name: 'card', type: 'int64', from: 'CUSTOMER_ID' },
    { name: 'seen', type: 'timestamp', layout: 'unix_ms' }, { name: 'at', type: 'timestamp', layout: 'rfc3339' }, { name: 'shop', type: 'string', from: 'shop.name' },
  ];
  assert.deepEqual(JSON.parse(sampleEvent({ format: 'json', fields }, now)), { id: 'id-1', TX_DATETIME: '2026-01-31 23:59:01', CUSTOMER_ID: 1, seen: 1769903941000, at: '2026-01-31T23:59:01Z', shop: { name: 'shop-1' } });
  assert.equal(sampleEvent({ format: 'csv', fields: fields.slice(0, 3) }, now), 'id-1,2026-01-31 23:59:01,1');
  assert.match(sampleRule({ name: 'transactions', alias: '', key: 'card', fields }), /by\(transactions\.card\)[\s\S]*"card " \+ string\(transactions\.card\) \+ " is busy"'$/);
  assert.match(sampleRule({ name: 'payments', alias: 'tx', key: 'shop', fields }), /stream: payments\nwhen: last\("1h"\)\.by\(tx\.shop\)[\s\S]*"shop " \+ tx\.shop \+/);
});
