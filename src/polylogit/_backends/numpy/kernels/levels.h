/* The same source for each instruction set of the machine, by the compiler's target attributes; chosen when the
 * module is loaded. Results have the same bits with all that have fused multiply-add: the order of every operation is
 * written out.
 */

#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define X86 1

#define ISA sse2
#define FMA 0
#include "level.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define ISA avx2
#define FMA 1
#include "level.h"
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__(( \
    target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#endif
#define ISA avx512
#define FMA 1
#include "level.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#elif defined(__aarch64__) || defined(_M_ARM64)
#define ISA neon
#define FMA 1
#include "level.h"
#else
#define ISA plain
#define FMA 0
#include "level.h"
#endif

typedef struct {
    const char *name;
    const Kernels *kernels; /* of float, of double */
} Level;

/* From the slowest, which every machine of this kind has. */
static const Level LEVELS[] = {
#if X86
    {"sse2", kernels_sse2},
    {"avx2", kernels_avx2},
    {"avx512", kernels_avx512},
#elif defined(__aarch64__) || defined(_M_ARM64)
    {"neon", kernels_neon},
#else
    {"plain", kernels_plain},
#endif
};

/* How many of them this processor has. */
static int levels_here(void)
{
#if X86
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")))
        return 1;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
               ? 3
               : 2;
#else
    return 1;
#endif
}
