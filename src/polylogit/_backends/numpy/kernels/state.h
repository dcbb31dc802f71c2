/* What is known of rows, from one chunk or segment to the next. Once for each instruction set; all of it in float64.
 *
 * A row is read once before its sum is known, so terms are scaled by what the maximum has been so far. As K counts
 * powers of two, another K changes no digit of a sum. It changes only where the maximum has grown by a factor of
 * 2^LAZY at once, after which what was summed before is a small part of the whole.
 *
 * Rows whose maximum lies beyond FAR are shifted by it first: whatever matters in such a row is within a factor of 2 of
 * it, so that the differences are exact (Sterbenz).
 */

/* high + low + term, with all digits of it (Knuth's TwoSum). */
static ALWAYS_INLINE void ON(add)(double *high, double *low, double term)
{
    double sum = *high + term, back = sum - *high;
    *low += (*high - (sum - back)) + (term - back);
    *high = sum;
}

/* The term of the maximum itself. */
static ALWAYS_INLINE double ON(top)(const double *state, size_t width, size_t column)
{
    return ON(term_double)(AT(MAXIMUM), AT(SHIFT), ANCHOR64 - AT(K));
}

/* Choose SHIFT and K for the maximum m. */
static ALWAYS_INLINE void ON(refer)(double *state, size_t width, size_t column, double m, double far, double room)
{
    int none = m == -INFINITY;
    double shift = fabs(m) >= far ? m : 0;
    double k = FMA64(m - shift, FLOAT64_LOG2_E, ANCHOR64) - ANCHOR64;
    AT(SHIFT) = none ? 0 : shift;
    AT(K) = none ? 0 : k - room;
    AT(LIMIT) = none ? m : shift + (k + LAZY) * FLOAT64_LN2_HIGH;
}

/* Take note of a chunk's maximum; whether SHIFT or K have changed. */
static ALWAYS_INLINE int ON(advance)(double *state, size_t width, size_t column, double m, double far, double room)
{
    if (m != m)
        AT(MAXIMUM) = m;
    if (!(m > AT(MAXIMUM))) /* or what is known is NaN */
        return 0;
    if (AT(TIES) > 0)
        ON(add)(&AT(TOTAL), &AT(TOTAL_LOW), AT(TIES) * ON(top)(state, width, column));
    int changed = m > AT(LIMIT);
    if (changed) {
        double shift = AT(SHIFT), k = AT(K), first = AT(LIMIT);
        ON(refer)(state, width, column, m, far, room);
        double factor = first == -INFINITY ? 0 : ON(term_double)(shift, AT(SHIFT), ANCHOR64 - (AT(K) - k));
        for (int field = TOTAL; field <= DOT_LOW; field++)
            AT(field) *= factor;
    }
    AT(TIES) = 0;
    AT(MAXIMUM) = m;
    return changed;
}

/* Take note of the segment that follows. */
static ALWAYS_INLINE void
ON(merge)(double *state, const double *next, size_t width, double far, double room)
{
    for (size_t column = 0; column < width; column++) {
        double other[FIELDS];
        for (int field = 0; field < FIELDS; field++)
            other[field] = next[field * width + column];
        if (AT(MAXIMUM) == -INFINITY) {
            for (int field = 0; field < FIELDS; field++)
                AT(field) = other[field];
            continue;
        }
        ON(advance)(state, width, column, other[MAXIMUM], far, room);
        double factor = ON(term_double)(other[SHIFT], AT(SHIFT), ANCHOR64 - (AT(K) - other[K]));
        if (other[MAXIMUM] == AT(MAXIMUM))
            AT(TIES) += other[TIES];
        else if (other[TIES] > 0)
            ON(add)(&other[TOTAL], &other[TOTAL_LOW], other[TIES] * ON(top)(other, 1, 0));
        ON(add)(&AT(TOTAL), &AT(TOTAL_LOW), other[TOTAL] * factor);
        ON(add)(&AT(DOT), &AT(DOT_LOW), other[DOT] * factor);
        AT(TOTAL_LOW) += other[TOTAL_LOW] * factor;
        AT(DOT_LOW) += other[DOT_LOW] * factor;
    }
}
