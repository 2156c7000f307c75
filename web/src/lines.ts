// Thousands of plain lines in one call. sigma keeps an object for each edge
// and asks for its looks again with every change, which for 20,000 of them is
// most of what a person waits for; here a line is two places and a colour.

import type Sigma from 'sigma'

import { parts } from './colour.ts'

const VERTEX = `
attribute vec2 place;
attribute vec4 colour;
uniform vec4 view;
varying vec4 shade;
void main(void) {
  gl_Position = vec4(place * view.xy + view.zw, 0.0, 1.0);
  shade = colour;
}`

const FRAGMENT = `
precision mediump float;
varying vec4 shade;
void main(void) {
  gl_FragColor = shade;
}`

/** Bytes of a line's end: two floats and a colour. */
const END = 12

export interface PlainLine {
  from: { x: number; y: number }
  to: { x: number; y: number }
  /** As #rrggbb, or #rgb. */
  colour: string
}

export interface Lines {
  /** In the order in which they are drawn; none: nothing is. */
  show: (lines: PlainLine[]) => void
}

function compiled(gl: WebGLRenderingContext, kind: number, text: string): WebGLShader {
  const shader = gl.createShader(kind)
  if (shader === null) throw new Error('no shader can be made')
  gl.shaderSource(shader, text)
  gl.compileShader(shader)
  return shader
}

/** A layer below sigma's edges that moves with its camera. */
export function lines(sigma: Sigma): Lines {
  const canvas = sigma.createCanvas('lines', { beforeLayer: 'edges' })
  const gl = sigma.createWebGLContext('lines', { canvas })
  // It sizes its layers when its own size changes.
  sigma.resize(true)
  const program = gl.createProgram()
  gl.attachShader(program, compiled(gl, gl.VERTEX_SHADER, VERTEX))
  gl.attachShader(program, compiled(gl, gl.FRAGMENT_SHADER, FRAGMENT))
  gl.linkProgram(program)
  gl.useProgram(program)
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer())
  const [place, colour] = [gl.getAttribLocation(program, 'place'), gl.getAttribLocation(program, 'colour')]
  gl.enableVertexAttribArray(place)
  gl.vertexAttribPointer(place, 2, gl.FLOAT, false, END, 0)
  gl.enableVertexAttribArray(colour)
  gl.vertexAttribPointer(colour, 4, gl.UNSIGNED_BYTE, true, END, 8)
  const view = gl.getUniformLocation(program, 'view')
  let ends = 0

  sigma.on('afterRender', () => {
    gl.clear(gl.COLOR_BUFFER_BIT)
    if (ends === 0) return
    // The camera does not turn, so two places say how all are moved.
    const { width, height } = sigma.getDimensions()
    const [zero, one] = [sigma.graphToViewport({ x: 0, y: 0 }), sigma.graphToViewport({ x: 1000, y: 1000 })]
    const [x, y] = [(one.x - zero.x) / 1000, (one.y - zero.y) / 1000]
    gl.uniform4f(view, (2 * x) / width, (-2 * y) / height, (2 * zero.x) / width - 1, 1 - (2 * zero.y) / height)
    gl.drawArrays(gl.LINES, 0, ends)
  })

  return {
    show(all) {
      if (all.length === 0 && ends === 0) return
      const bytes = new ArrayBuffer(2 * END * all.length)
      const [floats, colours] = [new Float32Array(bytes), new Uint32Array(bytes)]
      const known = new Map<string, number>()
      all.forEach((line, number) => {
        let shade = known.get(line.colour)
        if (shade === undefined) {
          const [red, green, blue] = parts(line.colour)
          // The first byte is the lowest, as on every machine with a browser.
          shade = (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0
          known.set(line.colour, shade)
        }
        for (const [end, which] of [[line.from, 6 * number], [line.to, 6 * number + 3]] as const) {
          floats[which] = end.x
          floats[which + 1] = end.y
          colours[which + 2] = shade
        }
      })
      gl.bufferData(gl.ARRAY_BUFFER, bytes, gl.STATIC_DRAW)
      ends = 2 * all.length
    },
  }
}
