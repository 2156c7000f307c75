// What the page says of itself: the words of the filter, and how to begin.

import { byId, h, put } from './dom.ts'
import { FIELDS } from './filter.ts'

export function filterHelp(): void {
  const place = byId('filter-words', HTMLElement)
  const button = byId('filter-help', HTMLButtonElement)
  const example = (text: string, about: string): HTMLElement[] => [h('dt', {}, h('code', {}, text)), h('dd', {}, about)]
  put(
    place,
    h('p', {}, 'Words that must all hold of an edge; graph and table show the same ones.'),
    h(
      'dl',
      {},
      ...example('nginx', 'in any name or address of either end'),
      ...example('-ssh', 'not that'),
      ...example('from:curl to:db', 'the end that calls, the end that is called'),
      ...example('host:web*', 'the whole field; * stands for anything'),
      ...example('port:80,443', 'one of several'),
      ...example('port:1024-65535', 'from, to'),
      ...example('failed:>10', 'more than; also >=, <, <='),
      ...example('address:10.0.0.0/8', 'in a network'),
      ...example('"a b"', 'with spaces'),
    ),
    h('p', {}, 'Fields:'),
    h('dl', {}, ...Object.entries(FIELDS).flatMap(([name, field]) => example(`${name}:`, field.about))),
    h('p', {}, 'Links between groups have their ports, states, how many fail and who told of them, and no other numbers; one with more ports than are listed passes any port.'),
  )
  button.addEventListener('click', () => {
    place.hidden = !place.hidden
    button.setAttribute('aria-expanded', String(!place.hidden))
  })
}

/** Where no probe ever reported: what starts one that reports here. */
export function beginning(note: string): HTMLElement[] {
  const here = new URL('./', location.href).href
  const command = (text: string): HTMLElement => h('pre', { tabindex: 0 }, h('code', {}, text))
  const isLocal = ['127.0.0.1', 'localhost', '[::1]'].includes(location.hostname)
  const away = isLocal ? 'https://COLLECTOR:7717/' : here
  return [
    h('p', {}, `${note}.`),
    h('p', {}, 'On the machine of the collector:'),
    command(`sudo shawk probe --cmdb ${isLocal ? here : 'http://127.0.0.1:7717/'}`),
    h('p', {}, "On another, with a token that 'shawk enrol' makes:"),
    command(`sudo SHAWK_TOKEN_FILE=HOST.token shawk probe --cmdb ${away}`),
    h('p', {}, 'A probe reports every 30 seconds; what it saw is shown here then.'),
  ]
}
