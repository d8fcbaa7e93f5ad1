/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame header: all that travels on a stream is frames. See wire.md.
 *
 *   0  u32 body length   all integers little endian
 *   4  u16 type          enum frame_type
 *   6  u16 flags         must be 0
 *   8  u64 argument      per type (PAGES: space; ROUND: number), 0 otherwise
 */
#pragma once

#include "base/err.h"

#define FRAME_HEAD_BYTES 16

enum frame_type {
	/* session (before the engine sees the stream) */
	FRAME_HELLO = 1,
	FRAME_HELLO_OK = 2,
	/* source to destination */
	FRAME_BEGIN = 16,     /* Begin */
	FRAME_OBJECTS = 17,   /* Objects: new, changed, removed */
	FRAME_LAYOUT = 18,    /* argument: process; kinds/memory: changes of its address space */
	FRAME_PAGES = 19,     /* argument: space; run table, then page data */
	FRAME_ROUND = 20,     /* argument: round; barrier, answered by FRAME_ROUND_OK */
	FRAME_REHEARSED = 21, /* all objects of the rehearsal are sent; answered by CHECKED */
	FRAME_FINAL = 22,     /* Final: nothing more comes; answered by READY */
	FRAME_COMMIT = 23,    /* argument: 0; from here on the destination owns the process */
	FRAME_ABORT = 24,     /* Error: the process stays at the source */
	FRAME_PING = 25,      /* argument: anything; answered at once by PONG */
	FRAME_STREAMS = 26,   /* argument: how many page streams come now */
	FRAME_SPREAD = 27,    /* argument: round; its pages come over the page streams */
	FRAME_NETWORK = 28,   /* Network: addresses that come along, and that must be there */
	FRAME_CONNECTIONS =
		29, /* Connections: to be locked, then rebuilt from objects that follow */
	FRAME_TREE = 30, /* Tree: the processes, before their objects; again when they changed */
	/* destination to source */
	FRAME_ACCEPT = 48,   /* Accept: the destination's facts */
	FRAME_CHECKED = 49,  /* Checked: every blocker found there */
	FRAME_ROUND_OK = 50, /* argument: round */
	FRAME_READY = 51,    /* Ready */
	FRAME_RUNNING = 52,  /* Running */
	FRAME_ERROR = 53,    /* Error: it failed there; the source keeps the process */
	FRAME_PONG = 54,     /* Pong */
	FRAME_ALIVE = 61,    /* either side: still at work; whoever waits, waits anew */
	FRAME_NEXT = 62,     /* either side: argument: the connection on which it goes on */
	FRAME_BYE = 63,      /* either side: nothing follows; tells the end from a truncation */
};

/* Upper bounds of the body, per type; see frame_limit. */
#define FRAME_BODY_MAX (16u << 20)

struct frame_head {
	uint32_t length;
	uint16_t type;
	uint64_t arg;
};

void frame_encode(const struct frame_head *h, uint8_t buf[FRAME_HEAD_BYTES]);
/* PEER if the type is unknown, flags are set or the length is above the type's limit. */
struct err *frame_decode(const uint8_t buf[FRAME_HEAD_BYTES], struct frame_head *h) must_check;
/* Largest body of this type, 0 if it has none; UINT32_MAX for an unknown type. */
uint32_t frame_limit(uint16_t type);
const char *frame_name(uint16_t type);

/* The run table of a PAGES frame, in front of the data: count (u32), zero (u32), then this. */
enum run_kind { RUN_DATA = 0, RUN_ZERO = 1, RUN_DROP = 2 };
struct run {
	uint64_t start; /* page aligned */
	uint64_t pages;
	enum run_kind kind;
};
#define RUN_HEAD_BYTES 8
#define RUN_BYTES      16 /* start (u64, page aligned) | kind in the low bits; pages (u64) */
void run_encode(const struct run *r, uint8_t buf[RUN_BYTES]);
struct err *run_decode(const uint8_t buf[RUN_BYTES], struct run *r) must_check;
