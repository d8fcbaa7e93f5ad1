// SPDX-License-Identifier: Apache-2.0
#include "kernel/unlinked_file.h"

#include <string.h>

bool proc_unlinked_path(const char *path)
{
	static const char *const kernels[] = { "/memfd:", "/dev/zero (deleted)", "/SYSV", "/[aio]",
		"/anon_hugepage", "/secretmem" };
	static const char deleted[] = " (deleted)";
	size_t n = strlen(path), tail = sizeof(deleted) - 1;

	for (size_t i = 0; i < ARRAY_LEN(kernels); i++)
		if (!strncmp(path, kernels[i], strlen(kernels[i])))
			return false;
	return path[0] == '/' && n > tail + 1 && !strcmp(path + n - tail, deleted);
}

/* FNV-1a: two files of the same number among those of one tree are not to be expected. */
uint64_t proc_unlinked_id(uint32_t dev_major, uint32_t dev_minor, uint64_t inode)
{
	const uint64_t parts[] = { dev_major, dev_minor, inode };
	uint64_t sum = 0xcbf29ce484222325;

	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		for (unsigned bit = 0; bit < 64; bit += 8)
			sum = (sum ^ (parts[i] >> bit & 0xff)) * 0x100000001b3;
	return VMA_UNLINKED | (sum & (VMA_UNLINKED - 1));
}
