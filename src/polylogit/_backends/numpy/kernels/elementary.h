/* exp and log1p, written so that a compiler can vectorise them: no branch, no call, no table.
 *
 * Included once for each instruction set, whose name is ISA; FMA says whether it has fused multiply-add. Knows
 * nothing of rows. The constants come from tests/numpy_backend/coefficients.py; tests/numpy_backend/check.c measures
 * the errors named here, in float32 at every argument there is.
 *
 * exp.  With k the integer nearest to x / ln 2 and r = x - k ln 2, exp(x) = 2^k exp(r) and |r| <= ln 2 / 2.
 *   - k is found by adding 1.5 * 2^23 (2^52 in float64), which leaves integers in the last bits of the sum. A second
 *     integer may be taken away in the same addition: `anchor` is that constant less K, and what comes out is
 *     exp(x) * 2^-K. No maximum is ever subtracted from x, so that nothing is rounded before r.
 *   - ln 2 is in two parts, the first of so few bits that its product with k is exact (|k| < 2^10, or 2^12); as it is
 *     within a factor of 2 of x, so is the difference. What is left is the rounding of the second step, at most 2^-26
 *     (2^-55), and an error of ln 2 of |k| 2^-40 (2^-97).
 *   - exp(r) = 1 + (r + r^2 g(r)), g the polynomial of degree 4 (9) with the smallest largest relative error of exp(r):
 *     2^-27.8 (2^-56.5) with rounded coefficients. It is added last, to a 1 of which it is at most 0.42.
 *   - 2^(k - K) is added to the exponent's bits. Below 2^-125 (2^-1021) that would be no normal number: 0 is
 *     returned. K leaves room enough (ROOM) that whatever this drops, divided by a sum, would be rounded to 0 anyway.
 *   All errors together stay below 1.05 ulp in both (measured: see the program).
 *
 * log1p of u >= 0, for one number a row, in float64.  1 + u = 2^e f with f in [sqrt(1/2), sqrt(2)), and what was
 *   rounded off 1 + u is kept as c. With g = f - 1, s = g / (2 + g), z = s^2:  log(f) = g - s (g - z P(z)), since
 *   2 s = g - s g; P, of degree 6, errs by 2^-59.1 of log(f). What is subtracted from g is at most a fifth of it, so
 *   that its own rounding hardly counts: below 1 ulp in all.
 */

#if FMA
#define FMA32(a, b, c) __builtin_fmaf(a, b, c)
#define FMA64(a, b, c) __builtin_fma(a, b, c)
#else
#define FMA32(a, b, c) ((a) * (b) + (c))
#define FMA64(a, b, c) ((a) * (b) + (c))
#endif

/* exp(x - shift) 2^-K, where anchor is ANCHOR - K. -inf gives 0; what NaN gives is not said. */
static ALWAYS_INLINE float ON(term_float)(float x, float shift, float anchor)
{
    x -= shift;
    float t = FMA32(x, FLOAT32_LOG2_E, anchor), k = t - anchor;
    float r = FMA32(-k, FLOAT32_LN2_LOW, FMA32(-k, FLOAT32_LN2_HIGH, x));
    float g = FMA32(FMA32(FMA32(FMA32(EXP32(4), r, EXP32(3)), r, EXP32(2)), r, EXP32(1)), r, EXP32(0));
    float p = 1 + FMA32(r * r, g, r);
    float y = float_of(bits_of_float(p) + (bits_of_float(t) << 23));
    return t > ANCHOR32 - 126 ? y : 0;
}

static ALWAYS_INLINE double ON(term_double)(double x, double shift, double anchor)
{
    x -= shift;
    double t = FMA64(x, FLOAT64_LOG2_E, anchor), k = t - anchor;
    double r = FMA64(-k, FLOAT64_LN2_LOW, FMA64(-k, FLOAT64_LN2_HIGH, x));
    double g = FMA64(FMA64(FMA64(EXP64(9), r, EXP64(8)), r, EXP64(7)), r, EXP64(6));
    g = FMA64(FMA64(FMA64(g, r, EXP64(5)), r, EXP64(4)), r, EXP64(3));
    g = FMA64(FMA64(FMA64(g, r, EXP64(2)), r, EXP64(1)), r, EXP64(0));
    double p = 1 + FMA64(r * r, g, r);
    double y = double_of(bits_of_double(p) + (bits_of_double(t) << 52));
    return t > ANCHOR64 - 1022 ? y : 0;
}

static ALWAYS_INLINE double ON(log1p)(double u)
{
    const uint64_t root_half = 0x3fe6a09e667f3bcd, one = 0x3ff0000000000000, exponent = 0xfff0000000000000;
    double w = 1 + u;
    double c = (u < 1 ? u - (w - 1) : 1 - (w - u)) / w;
    uint64_t bits = bits_of_double(w) + (one - root_half);
    double f = double_of((bits & ~exponent) + root_half);
    double e = double_of((bits >> 52) | 0x4330000000000000) - (0x1p52 + 1023);
    double g = f - 1, s = g / (2 + g), z = s * s;
    double P = FMA64(FMA64(FMA64(LOG1P(6), z, LOG1P(5)), z, LOG1P(4)), z, LOG1P(3));
    P = z * FMA64(FMA64(FMA64(P, z, LOG1P(2)), z, LOG1P(1)), z, LOG1P(0));
    return e * FLOAT64_LN2_HIGH - ((s * (g - P) - (e * FLOAT64_LN2_LOW + c)) - g);
}
