/* Measures the errors of the kernels' exp, log1p and sigmoid, and prints what must be the same with every instruction
 * set.
 *
 *   gcc -std=gnu11 -O3 -ffp-contract=off -fno-math-errno -fno-trapping-math \
 *       -I src/polylogit/_backends/numpy/kernels tests/numpy_backend/check.c -o check -lm
 *
 *   ./check float 0 1        float32: exp at every argument that it is used for, sigmoid at all 2^32
 *   ./check float 1 4        the second quarter of them
 *   ./check double 100000000 float64 at so many random arguments: exp, log1p, sigmoid
 *   ./check digest           a number for each instruction set and dtype that depends on every bit of many results
 *
 * The reference is the C library's in long double: on x86 with 64 bits, 11 more than float64, where every thousandth
 * argument of float64 is also looked at with 113 bits; on ARM with 113 throughout. Status 1 where an error exceeds
 * what elementary.h says.
 */

#include "levels.h"

#include <stdio.h>
#include <stdlib.h>

enum { AT_ONCE = 4096 };
static int failed;

static void report(const char *level, const char *what, double worst, double at, double limit)
{
    printf("%-8s %-16s worst error %.4f ulp at %.17g (at most %.2f)\n", level, what, worst, at, limit);
    failed |= !(worst <= limit);
}

/* In units in the last place of the exact value, of numbers with so many bits, the least place being 2^least. */
static double ulps(long double got, long double exact, int bits, int least)
{
    int exponent;
    frexpl(exact, &exponent);
    int place = exponent - bits < least ? least : exponent - bits;
    return (double)(fabsl(got - exact) / ldexpl(1, place));
}

static uint64_t state = 88172645463325252;
static double uniform(double low, double high)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return low + (high - low) * (double)(state >> 11) * 0x1p-53;
}

#if defined(X86)
#define FUSED avx2
#elif defined(__aarch64__)
#define FUSED neon
#else
#define FUSED plain
#endif
#define GLUE_(a, b) a##b
#define GLUE(a, b) GLUE_(a, b)
#if defined(X86)
__attribute__((target("avx2,fma")))
#endif
static NEVER_INLINE void exps(const double *x, double *y, const double *k, size_t count, int wide)
{
    for (size_t i = 0; i < count; i++)
        y[i] = wide ? GLUE(term_double_, FUSED)(x[i], 0, ANCHOR64 - k[i])
                    : (double)GLUE(term_float_, FUSED)((float)x[i], 0, ANCHOR32 - (float)k[i]);
}
#if defined(X86)
__attribute__((target("avx2,fma")))
#endif
static NEVER_INLINE void logs(const double *x, double *y, size_t count)
{
    for (size_t i = 0; i < count; i++)
        y[i] = GLUE(log1p_, FUSED)(x[i]);
}

static void sigmoids(const Level *level, const void *x, void *y, size_t count, int wide)
{
    Tile tile = {.operation = SIGMOID, .length = count, .x = x, .out = y};
    level->kernels[wide].each(&tile);
}

static int has_fma(int level) { return strcmp(LEVELS[level].name, "sse2") && strcmp(LEVELS[level].name, "plain"); }

static void check_float(long part, long parts)
{
    static float x[AT_ONCE], y[AT_ONCE];
    static double wide[AT_ONCE], result[AT_ONCE], k[AT_ONCE];
    double worst[4] = {0}, at[4] = {0};
    uint64_t first = (UINT64_C(1) << 32) / (uint64_t)parts * (uint64_t)part;
    uint64_t last = part + 1 == parts ? UINT64_C(1) << 32 : first + (UINT64_C(1) << 32) / (uint64_t)parts;
    for (uint64_t bits = first; bits < last; bits += AT_ONCE) {
        size_t count = LEAST(last - bits, AT_ONCE);
        for (size_t i = 0; i < count; i++) {
            x[i] = float_of((uint32_t)(bits + i));
            wide[i] = x[i];
            k[i] = fabs(wide[i]) <= 371 ? rint(wide[i] / 0.6931471805599453) : 0;
        }
        exps(wide, result, k, count, 0);
        for (size_t i = 0; i < count; i++)
            if (fabs(wide[i]) <= 371) {
                double error = ulps(result[i], ldexpl(expl(wide[i]), -(int)k[i]), 24, -149);
                if (!(error <= worst[3]))
                    worst[3] = error, at[3] = wide[i];
            } else if (wide[i] < -371 && result[i] != 0)
                worst[3] = INFINITY, at[3] = wide[i];
        for (int level = 0; level < levels_here(); level++) {
            sigmoids(&LEVELS[level], x, y, count, 0);
            for (size_t i = 0; i < count; i++) {
                double error = x[i] != x[i] ? (y[i] != y[i] ? 0 : INFINITY) : 0;
                if (x[i] == x[i])
                    error = ulps(y[i], 1 / (1 + expl(-(long double)x[i])), 24, -149);
                if (!(error <= worst[level]))
                    worst[level] = error, at[level] = x[i];
            }
        }
    }
    report("", "exp, float32", worst[3], at[3], 1.05);
    for (int level = 0; level < levels_here(); level++)
        report(LEVELS[level].name, "sigmoid, float32", worst[level], at[level], has_fma(level) ? 1.5 : 2.5);
}

#if defined(X86)
#include <quadmath.h>
#endif

static void check_double(long points)
{
    static double x[AT_ONCE], y[AT_ONCE], k[AT_ONCE];
    double worst[5] = {0}, at[5] = {0};
    long looked = 0;
    for (long done = 0; done < points; done += AT_ONCE) {
        for (size_t i = 0; i < AT_ONCE; i++) {
            x[i] = i % 4 ? uniform(-2800, 2800) : uniform(-1, 1) * pow(2, uniform(-60, 1));
            k[i] = rint(x[i] / 0.6931471805599453);
        }
        exps(x, y, k, AT_ONCE, 1);
        for (size_t i = 0; i < AT_ONCE; i++) {
            long double exact = ldexpl(expl(x[i]), -(int)k[i]);
#if defined(X86)
            if (++looked % 1000 == 0 && fabsq(scalbnq(expq(x[i]), -(int)k[i]) - exact) > 0x1p-62Q)
                worst[3] = INFINITY; /* the reference itself is wrong */
#endif
            double error = ulps(y[i], exact, 53, -1074);
            if (!(error <= worst[3]))
                worst[3] = error, at[3] = x[i];
            x[i] = i % 2 ? pow(2, uniform(-100, 30)) : uniform(0, 4);
        }
        logs(x, y, AT_ONCE);
        for (size_t i = 0; i < AT_ONCE; i++) {
            double error = ulps(y[i], log1pl(x[i]), 53, -1074);
            if (!(error <= worst[4]))
                worst[4] = error, at[4] = x[i];
            x[i] = i % 2 ? uniform(-745, 40) : uniform(-8, 8);
        }
        for (int level = 0; level < levels_here(); level++) {
            sigmoids(&LEVELS[level], x, y, AT_ONCE, 1);
            for (size_t i = 0; i < AT_ONCE; i++) {
                double error = ulps(y[i], 1 / (1 + expl(-(long double)x[i])), 53, -1074);
                if (!(error <= worst[level]))
                    worst[level] = error, at[level] = x[i];
            }
        }
    }
    (void)looked;
    report("", "exp, float64", worst[3], at[3], 1.05);
    report("", "log1p, float64", worst[4], at[4], 1.0);
    for (int level = 0; level < levels_here(); level++)
        report(LEVELS[level].name, "sigmoid, float64", worst[level], at[level], has_fma(level) ? 1.5 : 2.5);
}

static const uint64_t PRIME = 1099511628211u; /* of the hash FNV-1a */

/* softmax, log_softmax and sigmoid of rows of many lengths, contiguous and side by side. */
static uint64_t digest(const Level *level, int wide)
{
    enum { MOST = 3 * CHUNK + 7 };
    static double x[MOST * 5], y[MOST * 5], kept[MOST * 5], fields[FIELDS * 5], scratch[32768];
    uint64_t hash = 1469598103934665603u;
    state = 88172645463325252;
    for (size_t length = 1; length < MOST; length += 1 + length / 9) {
        size_t size = wide ? 8 : 4;
        for (size_t i = 0; i < length * 5; i++) {
            double value = uniform(-1, 1) * (i % 5 == 1 ? 500 : 9) + (i % 5 == 2 ? 3000 : 0);
            if (wide)
                x[i] = value;
            else
                ((float *)x)[i] = (float)value;
        }
        for (int operation = SOFTMAX; operation <= LOG_SOFTMAX; operation++)
            for (int columns = 0; columns < 2; columns++) {
                Tile tile = {.operation = operation, .columns = columns, .length = length, .width = columns ? 5 : 1,
                             .state = fields, .scratch = scratch, .first = 1};
                tile.x_pitch = tile.out_pitch = tile.kept_pitch = (ptrdiff_t)tile.width;
                for (size_t first = 0; first < length; first += CHUNK, tile.first = 0) {
                    tile.x = (char *)x + first * tile.width * size;
                    tile.length = LEAST(length - first, CHUNK);
                    level->kernels[wide].sum(&tile);
                }
                tile.x = x, tile.out = y, tile.kept = kept, tile.length = length;
                level->kernels[wide].finish(&tile);
                for (size_t i = 0; i < length * tile.width * size; i++)
                    hash = (hash ^ ((unsigned char *)y)[i]) * PRIME, hash = (hash ^ ((unsigned char *)kept)[i]) * PRIME;
            }
        sigmoids(level, x, y, length, wide);
        for (size_t i = 0; i < length * size; i++)
            hash = (hash ^ ((unsigned char *)y)[i]) * PRIME;
    }
    return hash;
}

int main(int count, char **arguments)
{
    if (count == 4 && !strcmp(arguments[1], "float"))
        check_float(atol(arguments[2]), atol(arguments[3]));
    else if (count == 3 && !strcmp(arguments[1], "double"))
        check_double(atol(arguments[2]));
    else if (count == 2 && !strcmp(arguments[1], "digest"))
        for (int level = 0; level < levels_here(); level++)
            for (int wide = 0; wide < 2; wide++)
                printf("%-8s %s %016llx\n", LEVELS[level].name, wide ? "float64" : "float32",
                       (unsigned long long)digest(&LEVELS[level], wide));
    else
        return 2;
    return failed;
}
