// When to ask again: an answer grows old, and a collector that went away may
// come back.

/** An answer stands so long. */
const EVERY = 30_000
/** After a question that failed; each time twice as long, up to `EVERY`. */
const AGAIN = 2_000
/** While somebody is about something that a new answer would take from under the hands; so often at most. */
const LATER = 3_000
const PATIENCE = 20

export interface Live {
  /** A question has ended. */
  ended: (how: 'answered' | 'failed' | 'refused') => void
  /** What is shown may be refreshed from now on: at once, if it is old. */
  wake: () => void
}

export interface Asker {
  /** Whether what is shown is to be kept fresh. */
  wanted: () => boolean
  /** Whether now is a bad moment. */
  busy: () => boolean
  ask: () => void
}

export function live({ wanted, busy, ask }: Asker): Live {
  let failures = 0
  let due = Infinity
  let timer = 0
  let patience = PATIENCE

  function wait(): void {
    window.clearTimeout(timer)
    if (due !== Infinity) timer = window.setTimeout(fire, Math.max(0, due - Date.now()))
  }

  function fire(): void {
    // A tab that nobody sees asks nothing, and does when it is seen.
    if (document.hidden || (failures === 0 && !wanted())) return
    if (patience > 0 && busy()) {
      patience--
      timer = window.setTimeout(fire, LATER)
    } else {
      patience = PATIENCE
      due = Infinity
      ask()
    }
  }

  const wake = (): void => {
    if (!document.hidden) wait()
  }
  document.addEventListener('visibilitychange', wake)
  return {
    ended(how) {
      failures = how === 'failed' ? failures + 1 : 0
      // The same question would be refused again.
      const pause = how === 'refused' ? Infinity : failures === 0 ? EVERY : Math.min(EVERY, AGAIN * 2 ** (failures - 1))
      due = Date.now() + pause
      wait()
    },
    wake,
  }
}

/** A quick answer needs no sign that it was asked for. */
const QUICK = 150

let slow = 0

/** Says that an answer is waited for, once it takes long enough to be seen. */
export function waits(is: boolean): void {
  window.clearTimeout(slow)
  delete document.body.dataset['asking']
  if (!is) document.body.removeAttribute('aria-busy')
  else {
    document.body.setAttribute('aria-busy', 'true')
    slow = window.setTimeout(() => (document.body.dataset['asking'] = ''), QUICK)
  }
}
