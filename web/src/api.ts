// Asks the collector. A token, where it wants one, is kept for this tab only.

import { keep, kept } from './store.ts'

const TOKEN = 'shawk-token'

/** Why a question has no answer, in words for people. */
export class Refusal extends Error {
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

export function keepToken(token: string): void {
  keep('sessionStorage', TOKEN, token)
}

async function ask(path: string, signal: AbortSignal): Promise<Response> {
  const token = kept('sessionStorage', TOKEN)
  const headers: Record<string, string> = token === null || token === '' ? {} : { Authorization: `Bearer ${token}` }
  let reply: Response
  try {
    reply = await fetch(path, { headers, signal, credentials: 'same-origin', redirect: 'error' })
  } catch (error) {
    if (signal.aborted) throw error
    throw new Refusal(0, 'The collector does not answer.')
  }
  if (reply.ok) return reply
  let why = `${reply.status} ${reply.statusText}`
  try {
    const said = (await reply.json()) as { error?: string; remedy?: string }
    // Where programs find what may be asked is nothing to people.
    why = [said.error, said.remedy].filter((part) => part !== undefined && part !== '' && part !== 'see /openapi.json').join('; ')
  } catch {
    // Something between us and the collector answered.
  }
  throw new Refusal(reply.status, why)
}

export async function fetchDocument<T>(path: string, signal: AbortSignal): Promise<T> {
  // In one piece: an answer of megabytes that is read as it comes, in pieces of
  // some kilobytes, takes twice as long to read.
  return JSON.parse(await (await (await ask(path, signal)).blob()).text()) as T
}

export async function picture(path: string, signal: AbortSignal): Promise<string> {
  return (await ask(path, signal)).text()
}
