/* SPDX-License-Identifier: Apache-2.0 */
/* A random page-table program and the worlds that it runs in: the parts of test_mmu_lockstep. */
#ifndef TESTS_UNIT_LOCKSTEP_H
#define TESTS_UNIT_LOCKSTEP_H
#include "mmu_model.h"
#include "mmu_rig.h"

#define RAM      (UINT64_C(8) << 20)
#define N_WORDS  (RAM / 8)
#define N_PCID   3U
#define N_ROOTS  3U
#define MAX_SEEN 512U
#define MAX_CUTS 8192U

/* Frames: roots, tables of any level, last-level tables, data. */
#define ROOT(i)  (UINT64_C(0x1000) * (1 + (i)))
#define TABLE(i) (UINT64_C(0x1000) * (4 + (i)))
#define N_TABLES 6U
#define LAST(i)  (UINT64_C(0x1000) * (10 + (i)))
#define N_LAST   5U
#define DATA(i)  (UINT64_C(0x1000) * (16 + (i)))
#define N_DATA   8U
#define N_FRAMES 24U

#define N_L4     3U
#define N_L3     2U
#define N_L2     3U
#define N_L1     4U
#define N_VA     (N_L4 * N_L3 * N_L2 * N_L1)

/* An MMU under test, and what its pages held when they were taken, by page. */
struct world {
	const char *name;
	struct mmu_rig rig;
	uint8_t *away;
};

#define N_WORLDS 7U

/* A value that a word of guest memory had from a time on. */
struct past {
	uint64_t value;
	uint64_t since;
	uint32_t older; /* index + 1 */
};

/* One program: the worlds it runs in, the model, and all that was ever stored. */
struct program {
	struct world world[N_WORLDS];
	struct guestmem *model;
	struct mmu_regs regs;
	uint64_t rng;
	uint64_t now;
	uint64_t seed;
	unsigned int step;

	uint32_t *newest; /* by word: index + 1 in past */
	struct past *past;
	uint32_t n_past, max_past;

	/* Since when translations may be cached: by PCID and address; global ones. */
	uint64_t flushed[N_PCID][N_VA];
	uint64_t flushed_global[N_VA];
	/* Since when pages of 2 MiB and 1 GiB may: INVLPG of any address in them flushes them. */
	uint64_t flushed_large[N_PCID][2][N_VA];
	uint64_t flushed_large_global[2][N_VA];
	/* When all of a PCID's structure caches were flushed, in order. */
	uint64_t cut[N_PCID][MAX_CUTS];
	unsigned int n_cuts[N_PCID];
	/* When a root was last in use with a PCID. */
	uint64_t root_used[N_PCID][N_ROOTS];

	/* Of one access: what older walks may have come to, and the words they read. */
	uint64_t older[MAX_SEEN];
	unsigned int n_older;
	uint64_t seen[MAX_SEEN];
	unsigned int n_seen;

	uint64_t n_ok, n_fault, n_mmio, n_ambiguous, n_stale, n_stores, n_exact;
};

/* What an access came to. */
struct outcome {
	enum mmu_result kind;
	uint32_t code;
	uint64_t gpa;
	bool zero; /* the common page of zeros, through the software TLB: any such page */
	bool hit; /* in the software TLB */
	uint8_t *host;
};

/* Who stores: the processor, a device by copying, a device to memory it was given. */
enum storer {
	BY_CPU,
	BY_DEVICE,
	BY_SPAN,
	N_STORERS
};

/* Fails the test and says where. */
#define CHECK(p, w, cond)                 \
	do {                              \
		if (!(cond)) {            \
			say(p, w, #cond); \
			fail();           \
		}                         \
	} while (0)

/* lockstep_world.c: chance, addresses, memory. */

/** rnd(), below(), chance() - random numbers: any, less than @n, true @pct times of 100. */
uint64_t rnd(struct program *p);
uint64_t below(struct program *p, uint64_t n);
bool chance(struct program *p, unsigned int pct);

/** va_of() - the address number @i of those that programs use. */
uint64_t va_of(unsigned int i);

/** pcid_now() - the current PCID. */
unsigned int pcid_now(const struct program *p);

/** world_load(), world_store() - a word of a world's memory, as its processor sees it. */
uint64_t world_load(struct world *w, uint64_t addr);
void world_store(struct world *w, uint64_t addr, uint64_t v);

/**
 * world_take() - the host swaps a page out, if it is at home.
 *
 * It comes back when it is asked for. Meanwhile its frame holds nonsense.
 */
void world_take(struct world *w, uint64_t page);

/** model_load(), model_store() - the same of the model's, which remembers all that was stored. */
uint64_t model_load(struct program *p, uint64_t addr);
void model_store(struct program *p, uint64_t addr, uint64_t v);

/** store() - store a word in all worlds. */
void store(struct program *p, uint64_t addr, uint64_t v);

/** store_bytes() - store bytes anywhere in all worlds. */
void store_bytes(struct program *p, uint64_t addr, const uint8_t *from,
		 uint64_t len, enum storer by);

/** say() - print where the program is, and what is wrong. */
void say(const struct program *p, const struct world *w, const char *what);

/** check_all() - audit all MMUs and compare all tables. */
void check_all(struct program *p);

/** program_init(), program_release() - begin the program of a seed, and end it. */
void program_init(struct program *p, uint64_t seed);
void program_release(struct program *p);

/* lockstep_older.c: what older walks may have come to. */

/** find_older() - fill program.older and program.seen for an access to address number @vi. */
void find_older(struct program *p, unsigned int vi, unsigned int access);

/** is_older() - whether an older walk may have come to @addr. */
bool is_older(const struct program *p, uint64_t addr);

/** see() - a word whose accessed or dirty bits an access may set. */
void see(struct program *p, uint64_t word);

/* lockstep_access.c: accesses, and what they may come to. */

/** random_kind() - MMU_ACC_* bits of a random access. */
unsigned int random_kind(struct program *p);

/** likely_va() - number of an address that most likely allows an access; its walk by the model. */
unsigned int likely_va(struct program *p, unsigned int access,
		       struct model_result *ret);

/** access_at() - make an access in all worlds, and compare. */
void access_at(struct program *p, unsigned int vi, unsigned int access);

/** check_place() - where a page is must be where the physmap has it. */
void check_place(struct program *p, struct world *w, const struct outcome *o,
		 unsigned int access);

/** step_access() - a step of a program: one access. */
void step_access(struct program *p);

/* lockstep_edits.c: changes of tables, and of where pages are. */

/** random_entry() - an entry for a table of a level. */
uint64_t random_entry(struct program *p, unsigned int level);

/** random_word() - address of an entry of a table that some address uses. */
uint64_t random_word(struct program *p, uint64_t frame, unsigned int level);

/** step_edit() and so on - steps of a program. */
void step_edit(struct program *p);
void step_burst(struct program *p);
void step_odd_store(struct program *p);
void step_drop(struct program *p);
void step_take(struct program *p);

/* lockstep_flushes.c: flushes and control registers. */

/** flushed_all() - everything was flushed, in the model's book. */
void flushed_all(struct program *p, bool global);

/** use_root() - the current root is in use now. */
void use_root(struct program *p);

/** invlpg() - flush one address. */
void invlpg(struct program *p, unsigned int vi);

/** some_flush() - flush an address or more, in any of the ways that there are. */
void some_flush(struct program *p, unsigned int vi);

/** step_cr3() and so on - steps of a program. */
void step_cr3(struct program *p);
void step_invlpg(struct program *p);
void step_invpcid(struct program *p);
void step_regs(struct program *p);

#endif
