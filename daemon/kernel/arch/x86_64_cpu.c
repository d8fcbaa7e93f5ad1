// SPDX-License-Identifier: Apache-2.0
/*
 * CPUID of x86-64. Programs choose code by it once, at their start (C libraries, JITs, OpenSSL), so
 * what they found must be there for ever. Only features that unprivileged code can use are
 * compared; those of the kernel (virtualisation, speculation control, SMEP) may differ.
 *
 * The extended state's layout is compared too: where AVX-512 lies in an XSAVE area differs between
 * Intel and AMD, and programs keep such areas (signal frames, lazy binding).
 */
#include "kernel/cpu.h"

#include <cpuid.h>
#include <stdio.h>
#include <string.h>

/* Word n of the list; the order is that of the wire and only grows at the end. */
enum word {
	W_1_ECX,
	W_1_EDX,
	W_7_EBX,
	W_7_ECX,
	W_7_EDX,
	W_71_EAX,
	W_71_EDX,
	W_D1_EAX,
	W_81_ECX,
	W_81_EDX,
	W_88_EBX,
	W_FEATURES,
};

static const struct leaf {
	uint32_t leaf, sub;
	unsigned reg; /* 0 eax ... 3 edx */
} leaves[W_FEATURES] = {
	[W_1_ECX] = { 1, 0, 2 },
	[W_1_EDX] = { 1, 0, 3 },
	[W_7_EBX] = { 7, 0, 1 },
	[W_7_ECX] = { 7, 0, 2 },
	[W_7_EDX] = { 7, 0, 3 },
	[W_71_EAX] = { 7, 1, 0 },
	[W_71_EDX] = { 7, 1, 3 },
	[W_D1_EAX] = { 0xd, 1, 0 },
	[W_81_ECX] = { 0x80000001, 0, 2 },
	[W_81_EDX] = { 0x80000001, 0, 3 },
	[W_88_EBX] = { 0x80000008, 0, 1 },
};

/* Components of XCR0 with a place of their own (0 and 1, x87 and SSE, lie in the legacy area). */
#define COMPONENT_FIRST 2
#define COMPONENT_LAST  19
#define W_LAYOUT(c)     (W_FEATURES + 2 * ((c)-COMPONENT_FIRST))
#define WORDS           W_LAYOUT(COMPONENT_LAST + 1)
_Static_assert(WORDS <= CPU_WORDS_MAX, "too many words");

/* Names as in /proc/cpuinfo. */
static const struct feature {
	uint8_t word, bit;
	const char *name;
} features[] = {
	{ W_1_EDX, 0, "fpu" },
	{ W_1_EDX, 4, "tsc" },
	{ W_1_EDX, 8, "cx8" },
	{ W_1_EDX, 15, "cmov" },
	{ W_1_EDX, 19, "clflush" },
	{ W_1_EDX, 23, "mmx" },
	{ W_1_EDX, 24, "fxsr" },
	{ W_1_EDX, 25, "sse" },
	{ W_1_EDX, 26, "sse2" },
	{ W_1_ECX, 0, "pni" },
	{ W_1_ECX, 1, "pclmulqdq" },
	{ W_1_ECX, 9, "ssse3" },
	{ W_1_ECX, 12, "fma" },
	{ W_1_ECX, 13, "cx16" },
	{ W_1_ECX, 19, "sse4_1" },
	{ W_1_ECX, 20, "sse4_2" },
	{ W_1_ECX, 22, "movbe" },
	{ W_1_ECX, 23, "popcnt" },
	{ W_1_ECX, 25, "aes" },
	{ W_1_ECX, 26, "xsave" },
	{ W_1_ECX, 27, "osxsave" },
	{ W_1_ECX, 28, "avx" },
	{ W_1_ECX, 29, "f16c" },
	{ W_1_ECX, 30, "rdrand" },
	{ W_7_EBX, 0, "fsgsbase" },
	{ W_7_EBX, 3, "bmi1" },
	{ W_7_EBX, 4, "hle" },
	{ W_7_EBX, 5, "avx2" },
	{ W_7_EBX, 8, "bmi2" },
	{ W_7_EBX, 9, "erms" },
	{ W_7_EBX, 11, "rtm" },
	{ W_7_EBX, 16, "avx512f" },
	{ W_7_EBX, 17, "avx512dq" },
	{ W_7_EBX, 18, "rdseed" },
	{ W_7_EBX, 19, "adx" },
	{ W_7_EBX, 21, "avx512ifma" },
	{ W_7_EBX, 23, "clflushopt" },
	{ W_7_EBX, 24, "clwb" },
	{ W_7_EBX, 26, "avx512pf" },
	{ W_7_EBX, 27, "avx512er" },
	{ W_7_EBX, 28, "avx512cd" },
	{ W_7_EBX, 29, "sha_ni" },
	{ W_7_EBX, 30, "avx512bw" },
	{ W_7_EBX, 31, "avx512vl" },
	{ W_7_ECX, 1, "avx512vbmi" },
	{ W_7_ECX, 4, "ospke" },
	{ W_7_ECX, 5, "waitpkg" },
	{ W_7_ECX, 6, "avx512_vbmi2" },
	{ W_7_ECX, 8, "gfni" },
	{ W_7_ECX, 9, "vaes" },
	{ W_7_ECX, 10, "vpclmulqdq" },
	{ W_7_ECX, 11, "avx512_vnni" },
	{ W_7_ECX, 12, "avx512_bitalg" },
	{ W_7_ECX, 14, "avx512_vpopcntdq" },
	{ W_7_ECX, 16, "la57" },
	{ W_7_ECX, 22, "rdpid" },
	{ W_7_ECX, 25, "cldemote" },
	{ W_7_ECX, 27, "movdiri" },
	{ W_7_ECX, 28, "movdir64b" },
	{ W_7_EDX, 2, "avx512_4vnniw" },
	{ W_7_EDX, 3, "avx512_4fmaps" },
	{ W_7_EDX, 4, "fsrm" },
	{ W_7_EDX, 8, "avx512_vp2intersect" },
	{ W_7_EDX, 14, "serialize" },
	{ W_7_EDX, 16, "tsxldtrk" },
	{ W_7_EDX, 22, "amx_bf16" },
	{ W_7_EDX, 23, "avx512_fp16" },
	{ W_7_EDX, 24, "amx_tile" },
	{ W_7_EDX, 25, "amx_int8" },
	{ W_71_EAX, 0, "sha512" },
	{ W_71_EAX, 1, "sm3" },
	{ W_71_EAX, 2, "sm4" },
	{ W_71_EAX, 4, "avx_vnni" },
	{ W_71_EAX, 5, "avx512_bf16" },
	{ W_71_EAX, 7, "cmpccxadd" },
	{ W_71_EAX, 21, "amx_fp16" },
	{ W_71_EAX, 23, "avx_ifma" },
	{ W_71_EDX, 4, "avx_vnni_int8" },
	{ W_71_EDX, 5, "avx_ne_convert" },
	{ W_71_EDX, 8, "amx_complex" },
	{ W_71_EDX, 10, "avx_vnni_int16" },
	{ W_71_EDX, 19, "avx10" },
	{ W_71_EDX, 21, "apx_f" },
	{ W_D1_EAX, 0, "xsaveopt" },
	{ W_D1_EAX, 1, "xsavec" },
	{ W_D1_EAX, 2, "xgetbv1" },
	{ W_81_ECX, 0, "lahf_lm" },
	{ W_81_ECX, 5, "abm" },
	{ W_81_ECX, 6, "sse4a" },
	{ W_81_ECX, 7, "misalignsse" },
	{ W_81_ECX, 8, "3dnowprefetch" },
	{ W_81_ECX, 11, "xop" },
	{ W_81_ECX, 16, "fma4" },
	{ W_81_ECX, 21, "tbm" },
	{ W_81_ECX, 29, "mwaitx" },
	{ W_81_EDX, 11, "syscall" },
	{ W_81_EDX, 22, "mmxext" },
	{ W_81_EDX, 27, "rdtscp" },
	{ W_81_EDX, 29, "lm" },
	{ W_81_EDX, 30, "3dnowext" },
	{ W_81_EDX, 31, "3dnow" },
	{ W_88_EBX, 0, "clzero" },
	{ W_88_EBX, 4, "rdpru" },
};

/* Zeros for a leaf that this processor does not have. */
static void cpuid(uint32_t leaf, uint32_t sub, uint32_t regs[4])
{
	memset(regs, 0, 4 * sizeof(*regs));
	__get_cpuid_count(leaf, sub, &regs[0], &regs[1], &regs[2], &regs[3]);
}

size_t cpu_words(uint32_t words[CPU_WORDS_MAX])
{
	uint32_t regs[4];

	memset(words, 0, CPU_WORDS_MAX * sizeof(*words));
	for (size_t i = 0; i < W_FEATURES; i++) {
		cpuid(leaves[i].leaf, leaves[i].sub, regs);
		words[i] = regs[leaves[i].reg];
	}
	for (unsigned c = COMPONENT_FIRST; c <= COMPONENT_LAST; c++) {
		cpuid(0xd, c, regs);
		words[W_LAYOUT(c)] = regs[0];     /* size */
		words[W_LAYOUT(c) + 1] = regs[1]; /* offset */
	}
	return WORDS;
}

uint64_t cpu_state_components(void)
{
	uint32_t regs[4], low, high;

	cpuid(1, 0, regs);
	if (!(regs[2] & bit_OSXSAVE))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (uint64_t)high << 32 | low;
}

uint32_t cpu_state_bytes(void)
{
	uint32_t regs[4];

	cpuid(0xd, 0, regs);
	return regs[1];
}

void cpu_model(char *buf, size_t room)
{
	uint32_t text[13] = { 0 };
	const char *start = (const char *)text;

	for (unsigned i = 0; i < 3; i++)
		cpuid(0x80000002 + i, 0, text + 4 * i);
	start += strspn(start, " ");
	snprintf(buf, room, "%s", start);
}

static uint32_t word_at(const uint32_t *words, size_t n, size_t i)
{
	return i < n ? words[i] : 0;
}

void cpu_compare(struct cpu_list here, struct cpu_list there,
	void (*missing)(void *arg, const char *feature), void *arg)
{
	for (size_t i = 0; i < ARRAY_LEN(features); i++) {
		const struct feature *f = &features[i];
		uint32_t gone =
			word_at(here.v, here.n, f->word) & ~word_at(there.v, there.n, f->word);

		if (gone >> f->bit & 1)
			missing(arg, f->name);
	}
}

int cpu_state_moved(uint64_t components, const uint32_t *here, size_t n_here, const uint32_t *there,
	size_t n_there)
{
	for (int c = COMPONENT_FIRST; c <= COMPONENT_LAST; c++) {
		size_t w = (size_t)W_LAYOUT(c);

		if (!(components >> c & 1))
			continue;
		if (word_at(here, n_here, w) != word_at(there, n_there, w) ||
			word_at(here, n_here, w + 1) != word_at(there, n_there, w + 1))
			return c;
	}
	return -1;
}
