// SPDX-License-Identifier: Apache-2.0
// A computation that the JIT optimises, in slices between timers; prints a line per slice.
'use strict';
const fs = require('fs');
const slices = Number(process.argv[2]);
let x = 0x12345678, ticks = 0, slice = 0, last = process.hrtime.bigint();

function mix(n) {
	for (let i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >>> 17;
		x ^= x << 5;
		x = Math.imul(x, 0x9e3779b1) + (i & 0xff) | 0;
	}
	return x;
}

const timer = setInterval(() => {
	const now = process.hrtime.bigint();
	if (now < last || now - last > 20000000000n)
		throw new Error(`the clock jumped from ${last} to ${now}`);
	last = now;
	ticks++;
}, 5);

function step() {
	const table = new Map();
	for (let i = 0; i < 200; i++)
		table.set(`k${i}`, mix(5000));
	let sum = 0;
	for (const v of table.values())
		sum = (sum + v) | 0;
	fs.writeSync(1, `${slice} ${sum}\n`);
	if (++slice < slices) {
		setTimeout(step, 3);
		return;
	}
	clearInterval(timer);
	fs.writeSync(2, `ticks ${ticks}\n`);
}
step();
