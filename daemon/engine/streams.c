// SPDX-License-Identifier: Apache-2.0
/* How many streams the source's pages go over, and their connections. */
#include "engine/source.h"

uint32_t source_streams_offer(const struct source *s, uint32_t cpus)
{
	if (!s->io->open_stream || s->opt->dry_run)
		return 1;
	if (s->opt->streams)
		return MIN(s->opt->streams, ENGINE_STREAMS_MAX);
	/* By reference one thread is enough here, and the process at the other end reads for one
	 * after the other. */
	return channel_splices_out(&s->peer.ch) ? 1 : MIN(lanes_auto(cpus), ENGINE_STREAMS_MAX);
}

struct err *source_streams_agree(
	struct source *s, const Migrate__Begin *mine, const Migrate__Accept *theirs)
{
	uint32_t theirs_n = MAX(theirs->streams, 1U), n = MAX(mine->streams, 1U);

	if (theirs_n > n)
		return err_new(ERR_PEER, "%u page streams accepted of %u", theirs_n, n);
	s->streams = MIN(n, theirs_n);
	/* The user has a say, the other host's processors count for those who have not. */
	if (!s->opt->streams)
		s->streams = MIN(s->streams, lanes_auto(theirs->facts->cpus));
	else if (s->streams < s->opt->streams && !s->opt->dry_run)
		notes_warnf(&s->out->notes, "pages go over %u of %u streams: more cannot be had",
			s->streams, s->opt->streams);
	return NULL;
}

struct err *source_streams_open(struct source *s)
{
	const struct channel_more more = peer_more(&s->peer, true);

	s->out->stats.streams = s->streams;
	if (s->streams <= 1)
		return NULL;
	TRY(peer_reason(&s->peer, channel_send(&s->peer.ch, FRAME_STREAMS, s->streams, NULL, 0)));
	return peer_reason(&s->peer, lanes_open(&s->lanes, s->io, s->streams, &more));
}

uint64_t source_bytes(const struct source *s)
{
	return s->peer.ch.bytes_out + lanes_bytes(&s->lanes);
}
