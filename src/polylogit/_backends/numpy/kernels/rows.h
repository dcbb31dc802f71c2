/* The arithmetic on tiles of rows, in one dtype, T, for one instruction set. Knows no array and no Python.
 *
 * A tile is a piece of one contiguous row, or of rows that lie side by side, its columns; the first is the second
 * with one column, and in the same code: element j of a row always goes to the same lane and is added in the same
 * order. Loops are such as compilers vectorise: over neighbours, without branches. Where columns are few and nothing
 * lies between them, several elements of each are neighbours too, and the numbers that belong to a column are
 * repeated that often.
 */

/* --- pieces of rows: `step` is 1 where each element has numbers of its own, 0 where one serves all ---------------- */

static ALWAYS_INLINE void
OF(terms)(const T *restrict x, T *restrict y, size_t count, const T *restrict anchor, const T *restrict shift, int step)
{
    for (size_t i = 0; i < count; i++)
        y[i] = OF(term)(x[i], shift[i * step], anchor[i * step]);
}

/* Without the maximum, which is counted instead. */
static ALWAYS_INLINE void
OF(terms_below)(const T *restrict x, T *restrict y, size_t count, const T *restrict anchor, const T *restrict shift,
                const T *restrict maximum, T *restrict ties, int step)
{
    U found = 0;
    for (size_t i = 0; i < count; i++) {
        T term = OF(term)(x[i], shift[i * step], anchor[i * step]);
        y[i] = x[i] == maximum[i * step] ? 0 : term;
    }
    for (size_t i = 0; step && i < count; i++)
        ties[i] += x[i] == maximum[i] ? (T)1 : (T)0;
    for (size_t i = 0; !step && i < count; i++)
        found += x[i] == *maximum;
    if (!step)
        *ties += (T)found;
}

static ALWAYS_INLINE void
OF(terms_times)(const T *restrict x, const T *restrict other, T *restrict y, size_t count, const T *restrict anchor,
                const T *restrict shift, int step)
{
    for (size_t i = 0; i < count; i++)
        y[i] = OF(term)(x[i], shift[i * step], anchor[i * step]) * other[i];
}

static ALWAYS_INLINE void
OF(products)(const T *restrict x, const T *restrict other, T *restrict y, size_t count)
{
    for (size_t i = 0; i < count; i++)
        y[i] = x[i] * other[i];
}

/* How many elements of each column to take at once, and the numbers for so many. */
static ALWAYS_INLINE size_t OF(repeats)(size_t width, int adjacent)
{
    return adjacent ? FLAT / width : 1;
}

static ALWAYS_INLINE void OF(repeat)(T *numbers, size_t width, size_t times)
{
    for (size_t i = width; i < width * times; i++)
        numbers[i] = numbers[i - width];
}

/* To a sum: of float, float64 has digits enough. */
static ALWAYS_INLINE void OF(add)(double *high, double *low, double term)
{
    if (sizeof(T) == sizeof(double))
        ON(add)(high, low, term);
    else
        *high += term;
}

/* --- the first pass: maxima and sums ------------------------------------------------------------------------------ */

static ALWAYS_INLINE void OF(raise)(const T *restrict x, T *restrict m, U *restrict bad, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        m[i] = x[i] > m[i] ? x[i] : m[i];
        bad[i] |= x[i] != x[i];
    }
}

/* The maximum of each column, NaN where there is one, and +0 for -0. A contiguous row is taken as `times` columns. */
static ALWAYS_INLINE void OF(maxima)(const T *x, ptrdiff_t pitch, size_t length, const size_t width, const size_t times,
                                     T *restrict m, U *restrict bad)
{
    size_t row = 0;
    for (size_t i = 0; i < width * times; i++)
        m[i] = -(T)INFINITY, bad[i] = 0;
    for (; row + times <= length; row += times)
        OF(raise)(x + (ptrdiff_t)row * pitch, m, bad, width * times);
    OF(raise)(x + (ptrdiff_t)row * pitch, m, bad, width * (length - row));
    for (size_t left = times; left > 1;) {
        size_t half = left / 2, rest = left - half; /* the last `half` to the first */
        for (size_t i = 0; i < half * width; i++) {
            m[i] = m[rest * width + i] > m[i] ? m[rest * width + i] : m[i];
            bad[i] |= bad[rest * width + i];
        }
        left = rest;
    }
    for (size_t i = 0; i < width; i++)
        m[i] = bad[i] ? (T)NAN : m[i] + 0;
}

/* Take note of the maxima; whether SHIFT or K have changed. */
static ALWAYS_INLINE int OF(look)(const Tile *tile, const T *m)
{
    const size_t width = tile->width;
    double *restrict state = tile->state;
    int changed = 0;
    if (tile->first)
        for (size_t column = 0; column < width; column++) {
            AT(MAXIMUM) = m[column];
            ON(refer)(state, width, column, m[column], FAR, ROOM);
        }
    else
        for (size_t column = 0; column < width; column++)
            changed |= ON(advance)(state, width, column, m[column], FAR, ROOM);
    return changed;
}

/* Add groups of numbers to the lanes of their columns. */
static ALWAYS_INLINE void
OF(accumulate)(const T *restrict y, size_t groups, const size_t width, double *restrict high, double *restrict low)
{
    for (size_t group = 0; group < groups; group++, y += GROUP * width)
        for (size_t i = 0; i < LANES * width; i++) {
            T four = (y[i] + y[i + 16 * width]) + (y[i + 8 * width] + y[i + 24 * width]);
            OF(add)(&high[i], &low[i], four);
        }
}

/* Of a single row the lanes are kept in registers, where compilers do not see to it by themselves. */
static NEVER_INLINE void
OF(accumulate_row)(const T *restrict y, size_t groups, double *restrict high, double *restrict low)
{
#if defined(__GNUC__)
    typedef T Some __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T)), may_alias)); /* wherever it lies */
    typedef double Lanes __attribute__((vector_size(4 * sizeof(double))));
    Lanes h[2], l[2];
    memcpy(h, high, sizeof h);
    memcpy(l, low, sizeof l);
    for (size_t group = 0; group < groups; group++) {
        const Some *v = (const Some *)(y + group * GROUP);
        for (int half = 0; half < 2; half++) {
            Some four = (v[half] + v[half + 4]) + (v[half + 2] + v[half + 6]);
            Lanes term = __builtin_convertvector(four, Lanes), sum = h[half] + term, back = sum - h[half];
            if (sizeof(T) == sizeof(double))
                l[half] += (h[half] - (sum - back)) + (term - back);
            h[half] = sum;
        }
    }
    memcpy(high, h, sizeof h);
    memcpy(low, l, sizeof l);
#else
    OF(accumulate)(y, groups, 1, high, low);
#endif
}

/* Add the lanes to what is known of the rows. */
static ALWAYS_INLINE void
OF(settle)(double *restrict high, double *restrict low, double *restrict state, const size_t width, int field)
{
    for (size_t half = LANES / 2; half; half /= 2)
        for (size_t i = 0; i < half * width; i++) {
            low[i] += low[i + half * width];
            OF(add)(&high[i], &low[i], high[i + half * width]);
        }
    for (size_t column = 0; column < width; column++) {
        ON(add)(&AT(field), &AT(field + 1), high[column]);
        AT(field + 1) += low[column];
    }
}

/* What the terms of a tile's columns, or rows, are computed with; `ties` counts. */
typedef struct {
    T *anchor, *shift, *maximum, *ties;
} OF(Numbers);

/* What is summed: with `dot` the terms times the second input. */
static ALWAYS_INLINE void OF(fill)(const Tile *tile, int dot, const T *x, const T *other, T *y, size_t count,
                                   OF(Numbers) of, const int step)
{
    if (dot)
        OF(terms_times)(x, other, y, count, of.anchor, of.shift, step);
    else if (tile->operation == SOFTMAX)
        OF(terms)(x, y, count, of.anchor, of.shift, step);
    else if (tile->operation == LOG_SOFTMAX)
        OF(terms_below)(x, y, count, of.anchor, of.shift, of.maximum, of.ties, step);
    else if (tile->operation == LOG_SOFTMAX_PULL)
        memcpy(y, x, count * sizeof(T));
    else
        OF(products)(x, other, y, count);
}

static ALWAYS_INLINE void OF(fetch_soon)(const T *x, size_t count)
{
    for (size_t i = 0; i < count; i += 64 / sizeof(T))
        FETCH_SOON(x + i);
}

/* Sum one contiguous row into its lanes. */
static ALWAYS_INLINE void
OF(sum_row)(const Tile *tile, int dot, size_t row, OF(Numbers) of, T *room, double *high, double *low)
{
    const size_t width = tile->width, whole = tile->length / GROUP * GROUP, rest = tile->length - whole;
    const T *x = (const T *)tile->x + (ptrdiff_t)row * tile->x_pitch;
    const T *other = (const T *)tile->other + (ptrdiff_t)row * tile->other_pitch;
    T *out = tile->out && !dot ? (T *)tile->out + (ptrdiff_t)row * tile->out_pitch : NULL, *y = out ? out : room;
    T last[GROUP] = {0};
    double h[LANES] = {0}, l[LANES] = {0};
    of = (OF(Numbers)){of.anchor + row, of.shift + row, of.maximum + row, of.ties + row};
    for (size_t i = 0; i < whole; i += AHEAD) {
        if (tile->ahead && !dot)
            OF(fetch_soon)(x + i + tile->ahead, LEAST(whole - i, AHEAD));
        OF(fill)(tile, dot, x + i, other + i, y + i, LEAST(whole - i, AHEAD), of, 0);
    }
    OF(accumulate_row)(y, whole / GROUP, h, l);
    if (rest) {
        OF(fill)(tile, dot, x + whole, other + whole, last, rest, of, 0);
        OF(accumulate_row)(last, 1, h, l);
        if (out)
            memcpy(out + whole, last, rest * sizeof(T));
    }
    for (size_t lane = 0; lane < LANES; lane++)
        high[lane * width + row] = h[lane], low[lane * width + row] = l[lane];
}

/* Sum the next GROUP elements, or what is left of them, of columns into their lanes. */
static ALWAYS_INLINE void OF(sum_lines)(const Tile *tile, int dot, size_t row, size_t times, OF(Numbers) of, T *room,
                                        double *high, double *low)
{
    const size_t width = tile->width, length = LEAST(tile->length - row, GROUP);
    T *out = tile->out && !dot ? (T *)tile->out + (ptrdiff_t)row * tile->out_pitch : NULL;
    for (size_t line = 0; line < length; line += times) {
        const T *x = (const T *)tile->x + (ptrdiff_t)(row + line) * tile->x_pitch;
        const T *other = (const T *)tile->other + (ptrdiff_t)(row + line) * tile->other_pitch;
        if (tile->ahead && !dot)
            OF(fetch_soon)(x + tile->ahead, LEAST(length - line, times) * width);
        OF(fill)(tile, dot, x, other, room + line * width, LEAST(length - line, times) * width, of, 1);
    }
    memset(room + length * width, 0, (GROUP - length) * width * sizeof(T));
    OF(accumulate)(room, 1, width, high, low);
    for (size_t line = 0; out && line < length; line++)
        memcpy(out + (ptrdiff_t)line * tile->out_pitch, room + line * width, width * sizeof(T));
}

static ALWAYS_INLINE int OF(sum_of)(const Tile *tile, const int columns)
{
    const int operation = tile->operation, terms = operation <= LOG_SOFTMAX, along = terms && tile->along;
    const size_t width = tile->width;
    double *restrict state = tile->state, *high = tile->scratch, *low = high + LANES * width;
    T *numbers = (T *)(low + LANES * width), *room = numbers + 4 * FLAT;
    OF(Numbers) of = {numbers, numbers + FLAT, numbers + 2 * FLAT, numbers + 3 * FLAT};
    int changed = 0, adjacent = tile->x_pitch == (ptrdiff_t)width && (!along || tile->other_pitch == (ptrdiff_t)width);
    size_t times = columns ? OF(repeats)(width, adjacent) : 1;
    if (tile->first)
        for (size_t i = 0; i < FIELDS * width; i++)
            state[i] = !terms && i / width == LIMIT ? (double)INFINITY : 0;
    if (terms) {
        if (columns)
            OF(maxima)(tile->x, tile->x_pitch, tile->length, width, times, of.maximum, (U *)of.ties);
        for (size_t row = 0; !columns && row < width; row++) {
            T m[GROUP];
            U bad[GROUP];
            OF(maxima)((const T *)tile->x + (ptrdiff_t)row * tile->x_pitch, 1, tile->length, 1, GROUP, m, bad);
            of.maximum[row] = *m;
        }
        changed = OF(look)(tile, of.maximum);
        for (size_t column = 0; column < width; column++) {
            of.anchor[column] = (T)(ANCHOR - AT(K));
            of.shift[column] = (T)AT(SHIFT);
            of.maximum[column] = (T)AT(MAXIMUM);
        }
        memset(of.ties, 0, width * times * sizeof(T));
        OF(repeat)(of.anchor, width, times);
        OF(repeat)(of.shift, width, times);
        OF(repeat)(of.maximum, width, times);
    }
    for (int dot = 0; dot <= along; dot++) {
        if (columns) {
            memset(high, 0, 2 * LANES * width * sizeof(double));
            for (size_t row = 0; row < tile->length; row += GROUP)
                OF(sum_lines)(tile, dot, row, times, of, room, high, low);
        } else
            for (size_t row = 0; row < width; row++)
                OF(sum_row)(tile, dot, row, of, room, high, low);
        OF(settle)(high, low, state, width, dot ? DOT : TOTAL);
    }
    for (size_t i = 0; operation == LOG_SOFTMAX && i < width * times; i++)
        state[TIES * width + i % width] += of.ties[i];
    return changed;
}

static int OF(sum)(const Tile *tile)
{
    return tile->columns ? OF(sum_of)(tile, 1) : OF(sum_of)(tile, 0);
}

/* --- the last pass: results --------------------------------------------------------------------------------------- */

/* A term over the sum of all. high + low is the sum's reciprocal, with digits to spare: the product is rounded once, is
   never above 1, and is 1 for a term that is the sum. Without fused multiply-add, high is the sum itself. */
static ALWAYS_INLINE T OF(share)(T term, T high, T low)
{
    return FMA ? FMA_T(term, high, term * low) : term / high;
}

/* x less high + low, where low is what high was rounded by; the rounding of the difference is made good. */
static ALWAYS_INLINE T OF(less)(T x, T high, T low)
{
    T difference = x - high, back = difference - x;
    T lost = (x - (difference - back)) - (high + back);
    return difference == -(T)INFINITY ? difference : difference + (lost - low);
}

/* The numbers that `share` and `less` take. */
static ALWAYS_INLINE void OF(reciprocal)(double total, double rest, T *high, T *low)
{
    double inverse = 1 / (total + rest), sum = total + rest, lost = (total - sum) + rest;
    *high = FMA ? (T)inverse : (T)sum;
    *low = sizeof(T) == sizeof(double) ? (T)((FMA64(-sum, inverse, 1) - lost * inverse) * inverse)
                                       : (T)(inverse - *high);
}

static ALWAYS_INLINE void OF(part)(double value, double rest, T *high, T *low)
{
    double sum = value, lost = 0;
    ON(add)(&sum, &lost, rest);
    *high = (T)sum;
    *low = (T)((sum - *high) + lost);
}

static ALWAYS_INLINE void OF(finish_of)(const Tile *tile, const int columns)
{
    const int operation = tile->operation, terms = operation <= LOG_SOFTMAX, step = columns;
    const size_t width = tile->width;
    const double *restrict state = tile->state;
    T *restrict numbers = tile->scratch, *anchor = numbers, *shift = anchor + FLAT;
    T *high = shift + FLAT, *low = high + FLAT, *mean = low + FLAT, *mean_low = mean + FLAT;
    T *level = mean_low + FLAT, *level_low = level + FLAT;
    for (size_t column = 0; column < width; column++) {
        double total = AT(TOTAL), rest = AT(TOTAL_LOW), wrong = terms ? AT(MAXIMUM) - AT(MAXIMUM) : 0, average;
        if (operation == LOG_SOFTMAX) {
            double top = ON(top)(state, width, column);
            double logarithm = ON(log1p)((AT(TIES) - 1) + (total + rest) / top);
            OF(part)(AT(MAXIMUM) + wrong, logarithm, &level[column], &level_low[column]);
            ON(add)(&total, &rest, AT(TIES) * top);
        }
        anchor[column] = (T)(ANCHOR - AT(K));
        shift[column] = (T)AT(SHIFT);
        OF(reciprocal)(total + wrong, rest, &high[column], &low[column]);
        average = terms ? (AT(DOT) + AT(DOT_LOW)) / (total + rest) + wrong : total;
        OF(part)(average, terms ? 0 : rest, &mean[column], &mean_low[column]);
    }
    int adjacent = tile->x_pitch == (ptrdiff_t)width && tile->out_pitch == (ptrdiff_t)width &&
                   (!tile->other || tile->other_pitch == (ptrdiff_t)width) &&
                   (!tile->kept || tile->kept_pitch == (ptrdiff_t)width);
    size_t times = columns ? OF(repeats)(width, adjacent) : 1;
    for (int i = 0; i < 8; i++)
        OF(repeat)(numbers + i * FLAT, width, times);
    for (size_t row = 0; row < (columns ? tile->length : width); row += times) {
        size_t count = columns ? LEAST(tile->length - row, times) * width : tile->length, first = columns ? 0 : row;
        const T *x = (const T *)tile->x + (ptrdiff_t)row * tile->x_pitch;
        const T *other = tile->other ? (const T *)tile->other + (ptrdiff_t)row * tile->other_pitch : NULL;
        T *out = (T *)tile->out + (ptrdiff_t)row * tile->out_pitch;
        T *kept = tile->kept ? (T *)tile->kept + (ptrdiff_t)row * tile->kept_pitch : NULL;
        /* One loop for each case: what does not vary must not be asked for each element. */
#define EACH(...)                                                                                                      \
    for (size_t i = 0, j = first; i < count; i++, j += step) {                                                         \
        __VA_ARGS__;                                                                                                   \
    }
#define TERM OF(term)(x[i], shift[j], anchor[j])
#define LESS_MEAN_OF(t) (((t) - mean[j]) - mean_low[j])
        if (operation == SOFTMAX && tile->scaled)
            EACH(out[i] = OF(share)(out[i], high[j], low[j]))
        else if (operation == SOFTMAX)
            EACH(out[i] = OF(share)(TERM, high[j], low[j]))
        else if (operation == LOG_SOFTMAX)
            EACH(out[i] = OF(less)(x[i], level[j], level_low[j]))
        else if (operation == SOFTMAX_PULL)
            EACH(out[i] = other[i] * LESS_MEAN_OF(x[i]))
        else if (operation == LESS_MEAN)
            EACH(out[i] = LESS_MEAN_OF(x[i]))
        else
            EACH(out[i] = FMA_T(-other[i], mean[j], x[i]))
        if (kept && tile->along && operation == SOFTMAX)
            EACH(kept[i] = out[i] * LESS_MEAN_OF(other[i]))
        else if (kept && tile->along)
            EACH(kept[i] = LESS_MEAN_OF(other[i]))
        else if (kept && operation == SOFTMAX)
            memcpy(kept, out, count * sizeof(T));
        else if (kept)
            EACH(kept[i] = OF(share)(TERM, high[j], low[j]))
    }
}

#undef EACH
#undef TERM
#undef LESS_MEAN_OF

static void OF(finish)(const Tile *tile)
{
    if (tile->columns)
        OF(finish_of)(tile, 1);
    else
        OF(finish_of)(tile, 0);
}

/* --- elements by themselves --------------------------------------------------------------------------------------- */

/* sigmoid and its derivative: with q = z / (1 + z), z = exp(-|x|), they are q (or 1 - q) and q (1 - q). z is scaled by
   2^ROOM, and 1 with it, so that the tail ends where T does. */
static ALWAYS_INLINE T OF(tail)(T x)
{
    T z = OF(term)(x < 0 ? x : -x, 0, (T)(ANCHOR + ROOM)), below = ONE + z, q = z / below;
    /* What the sum and the quotient have lost, over the sum. */
    T lost = FMA_T(-q, below, z) - q * (z - (below - ONE));
    return FMA ? FMA_T(lost, (1 - q) / ONE, q) : q;
}

static void OF(each)(const Tile *tile)
{
    const int operation = tile->operation, along = tile->along;
    const size_t count = tile->length;
    const T *restrict x = tile->x, *restrict other = tile->other;
    T *restrict out = tile->out, *restrict kept = tile->kept;
#define EACH(...)                                                                                                      \
    for (size_t i = 0; i < count; i++) {                                                                               \
        __VA_ARGS__;                                                                                                   \
    }
    switch (operation) {
    case SIGMOID: EACH(T q = OF(tail)(x[i]), p = x[i] < 0 ? q : 1 - q; out[i] = x[i] != x[i] ? x[i] : p) break;
    case MULTIPLY: EACH(out[i] = x[i] * other[i]) break;
    /* Of rows of one element; what is not finite gives NaN. */
    case SOFTMAX: EACH(out[i] = 1 + (x[i] - x[i])) break;
    case LOG_SOFTMAX: EACH(out[i] = x[i] - x[i]) break;
    case LESS_MEAN: EACH(out[i] = x[i] - x[i] * other[i]) break;
    case SOFTMAX_PULL: EACH(out[i] = other[i] * (x[i] - x[i] * other[i])) break;
    default: EACH(out[i] = FMA_T(-other[i], x[i], x[i])) break;
    }
    if (!kept)
        return;
    if (operation == SIGMOID)
        EACH(T q = OF(tail)(x[i]); kept[i] = x[i] != x[i] ? x[i] : q * (1 - q))
    else
        EACH(kept[i] = 1 + (x[i] - x[i]))
    if (along && operation == SIGMOID)
        EACH(kept[i] *= other[i])
    else if (along)
        EACH(kept[i] = (kept[i] - 1) + (other[i] - other[i]))
}
#undef EACH

static void OF(merge)(double *state, const double *next, size_t width)
{
    ON(merge)(state, next, width, FAR, ROOM);
}
