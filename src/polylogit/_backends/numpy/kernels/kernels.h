/* What the parts of the extension share: the constants, a tile of rows and what is known of its sums. */

#ifndef POLYLOGIT_KERNELS_H
#define POLYLOGIT_KERNELS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define NEVER_INLINE __attribute__((noinline))
#define FETCH_SOON(p) __builtin_prefetch(p, 0, 2)
#else
#define ALWAYS_INLINE inline
#define NEVER_INLINE
#define FETCH_SOON(p) ((void)(p))
#endif

/* --- constants of elementary.h, as tests/numpy_backend/coefficients.py prints them -------------------------------- */

static const float FLOAT32_EXP[] = {0x1.fffffc0000000p-2f, 0x1.5554900000000p-3f, 0x1.5558f40000000p-5f,
                                    0x1.123a660000000p-7f, 0x1.6a235c0000000p-10f};
#define FLOAT32_LN2_HIGH 0x1.62e8000000000p-1f
#define FLOAT32_LN2_LOW -0x1.e8082e0000000p-16f
#define FLOAT32_LOG2_E 0x1.7154760000000p+0f
static const double FLOAT64_EXP[] = {0x1.000000000000ap-1,  0x1.55555555554f9p-3,  0x1.55555555507f4p-5,
                                     0x1.1111111127e77p-7,  0x1.6c16c1844a382p-10, 0x1.a01a0129b7cd9p-13,
                                     0x1.a01999b010e85p-16, 0x1.71df262716a4bp-19, 0x1.28adcc3aba394p-22,
                                     0x1.ad7f05d5ba36fp-26};
#define FLOAT64_LN2_HIGH 0x1.62e42fefa4000p-1
#define FLOAT64_LN2_LOW -0x1.8432a1b0e2634p-43
#define FLOAT64_LOG2_E 0x1.71547652b82fep+0
static const double LOG1P_P[] = {0x1.5555555555593p-1, 0x1.999999997fb44p-2, 0x1.2492494216a19p-2, 0x1.c71c51e8c9c46p-3,
                                 0x1.7466460037351p-3, 0x1.39a0f9a18c36bp-3, 0x1.2f0d5e43e95dbp-3};
#define EXP32(i) FLOAT32_EXP[i]
#define EXP64(i) FLOAT64_EXP[i]
#define LOG1P(i) LOG1P_P[i]
#define ANCHOR32 0x1.8p23f
#define ANCHOR64 0x1.8p52

static ALWAYS_INLINE uint32_t bits_of_float(float x) { uint32_t u; memcpy(&u, &x, sizeof u); return u; }
static ALWAYS_INLINE float float_of(uint32_t u) { float x; memcpy(&x, &u, sizeof x); return x; }
static ALWAYS_INLINE uint64_t bits_of_double(double x) { uint64_t u; memcpy(&u, &x, sizeof u); return u; }
static ALWAYS_INLINE double double_of(uint64_t u) { double x; memcpy(&x, &u, sizeof x); return x; }

/* --- rows --------------------------------------------------------------------------------------------------------- */

enum {
    LANES = 8,       /* element j of a row is added to lane j mod 8, ... */
    GROUP = 32,      /* ... four elements at a time: ((0 + 16) + (8 + 24)) and so on in each run of 32 */
    CHUNK = 1024,    /* elements of a row after which its maximum is looked at again */
    SEGMENT = 262144,/* and after which a row begins anew, so that threads can share it */
    STRIP = 256,     /* columns side by side, at most */
    BATCH = 16,      /* contiguous rows that are worked on together, if they are short */
    AHEAD = 256,     /* elements of which as many that are read next are fetched while these are computed */
    LAZY = 20,       /* powers of two by which a maximum must grow for its row to be scaled anew */
    FLAT = STRIP,    /* numbers for columns, repeated where several elements of each are worked on at once */
};

#define LEAST(a, b) ((a) < (b) ? (a) : (b))
#define LARGEST(a, b) ((a) > (b) ? (a) : (b))

/* What is known of a row so far: doubles, `width` of each kind. Terms are exp(x - SHIFT) 2^-K. */
enum {
    MAXIMUM, /* NaN if there was one */
    TIES,    /* how often the maximum occurred, where it is left out of the total */
    SHIFT,   /* 0, or a number so large that its differences to what matters are exact */
    K,
    LIMIT,   /* a maximum beyond which SHIFT and K are chosen anew; -inf before the first */
    TOTAL,   /* of the terms (or of what else is summed) and what rounding left of it */
    TOTAL_LOW,
    DOT,     /* the same of terms times the second input */
    DOT_LOW,
    FIELDS
};

/* What the last pass computes; also what is summed before it. */
enum { SOFTMAX, LOG_SOFTMAX, SOFTMAX_PULL, LESS_MEAN, LOG_SOFTMAX_PULL, SIGMOID, MULTIPLY, OPERATIONS };

/* A piece of `width` rows: contiguous ones, `*_pitch` apart, or ones that lie side by side, whose elements are. */
typedef struct {
    int operation, along;               /* along: also the derivative in the direction `other`, into `kept` */
    int columns;                        /* whether the rows lie side by side */
    size_t length, width;
    const void *x, *other;
    void *out, *kept;                   /* either may be NULL */
    ptrdiff_t x_pitch, other_pitch, out_pitch, kept_pitch;
    double *state;                      /* FIELDS of `width` each */
    void *scratch;                      /* of `scratch_size` */
    ptrdiff_t ahead;                    /* how far from x what is read next lies, in elements; 0: not known */
    int scaled;                         /* out holds the terms already */
    int first;                          /* nothing is known of the rows yet */
} Tile;

/* Numbers of float64 that a tile needs to work in, beside its state. */
static inline size_t scratch_size(size_t width, int columns)
{
    return 2 * LANES * width + 8 * FLAT + (columns ? GROUP * width : CHUNK);
}

typedef struct {
    int (*sum)(const Tile *);                     /* adds a chunk to the state; whether SHIFT or K have changed */
    void (*finish)(const Tile *);                 /* computes results from the state of whole rows */
    void (*each)(const Tile *);                   /* what is no reduction: `length` elements */
    void (*merge)(double *state, const double *next, size_t width); /* two consecutive segments */
} Kernels;

#endif
