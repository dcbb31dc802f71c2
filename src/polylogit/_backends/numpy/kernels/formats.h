/* What elements of arrays are made of, and how pieces of arrays are converted to float or double and back, rounded
 * once. A format is known by one letter, NumPy's where it has one.
 */

typedef struct {
    char letter;
    int size, mantissa, bias;      /* mantissa: bits of it that are stored */
    int last, infinity, not_a_number; /* the largest finite magnitude; what is above it. -1: there is no infinity */
    int finite_zero;               /* of the formats without -0, whose bits are NaN's */
} Small;

static const Small SMALL[] = {
    {'e', 2, 10, 15, 0x7bff, 0x7c00, 0x7e00, 0},  /* float16 */
    {'E', 2, 7, 127, 0x7f7f, 0x7f80, 0x7fc0, 0},  /* bfloat16 */
    {'1', 1, 3, 7, 0x7e, -1, 0x7f, 0},            /* float8_e4m3fn */
    {'2', 1, 3, 8, 0x7f, -1, 0x80, 1},            /* float8_e4m3fnuz */
    {'3', 1, 2, 15, 0x7b, 0x7c, 0x7e, 0},         /* float8_e5m2 */
    {'4', 1, 2, 16, 0x7f, -1, 0x80, 1},           /* float8_e5m2fnuz */
};

static const Small *small_format(char letter)
{
    for (size_t i = 0; i < sizeof SMALL / sizeof *SMALL; i++)
        if (SMALL[i].letter == letter)
            return &SMALL[i];
    return NULL;
}

/* Bytes of an element; 0 for a letter that is none. */
static int format_size(char letter)
{
    static const char letters[] = "?bBhHiIqQfd", sizes[] = "\1\1\1\2\2\4\4\10\10\4\10";
    const Small *small = small_format(letter);
    const char *at = letter ? strchr(letters, letter) : NULL;
    return small ? small->size : at ? sizes[at - letters] : 0;
}

static ALWAYS_INLINE uint64_t turned(uint64_t value, int size)
{
    uint64_t out = 0;
    for (int i = 0; i < size; i++)
        out |= (value >> 8 * i & 0xff) << 8 * (size - 1 - i);
    return out;
}

/* The bits of an element, of the machine's byte order or the other. */
static ALWAYS_INLINE uint64_t raw(const char *p, int size, int swap)
{
    uint8_t one;
    uint16_t two;
    uint32_t four;
    uint64_t value;
    switch (size) {
    case 1: memcpy(&one, p, 1), value = one; break;
    case 2: memcpy(&two, p, 2), value = two; break;
    case 4: memcpy(&four, p, 4), value = four; break;
    default: memcpy(&value, p, 8); break;
    }
    return swap ? turned(value, size) : value;
}

static ALWAYS_INLINE void put_raw(char *p, uint64_t value, int size, int swap)
{
    if (swap)
        value = turned(value, size);
    uint8_t one = (uint8_t)value;
    uint16_t two = (uint16_t)value;
    uint32_t four = (uint32_t)value;
    switch (size) {
    case 1: memcpy(p, &one, 1); break;
    case 2: memcpy(p, &two, 2); break;
    case 4: memcpy(p, &four, 4); break;
    default: memcpy(p, &value, 8); break;
    }
}

static ALWAYS_INLINE double power_of_2(int exponent) { return double_of((uint64_t)(1023 + exponent) << 52); }

static ALWAYS_INLINE double decode(unsigned bits, Small f)
{
    unsigned top = 1u << (8 * f.size - 1), magnitude = bits & (top - 1);
    double value = double_of((uint64_t)magnitude << (52 - f.mantissa)) * power_of_2(1023 - f.bias);
    if ((int)magnitude > f.last)
        value = (int)magnitude == f.infinity ? INFINITY : NAN;
    if (f.finite_zero && bits == top)
        value = NAN;
    return bits & top ? -value : value;
}

/* Rounded to nearest, ties to even, by adding a number whose last place is that of the result. */
static ALWAYS_INLINE unsigned encode(double value, Small f)
{
    unsigned top = 1u << (8 * f.size - 1), above = f.infinity < 0 ? (unsigned)f.not_a_number : (unsigned)f.infinity;
    unsigned sign = bits_of_double(value) >> 63 ? top : 0, magnitude;
    double a = fabs(value), least = power_of_2(1 - f.bias);
    if (value != value)
        return (unsigned)f.not_a_number;
    if (a > 2 * decode((unsigned)f.last, f))
        magnitude = above;
    else {
        double place = double_of(bits_of_double(a < least ? least : a) & 0x7ff0000000000000) * power_of_2(-f.mantissa);
        double rounded = (a + place * 0x1.8p52) - place * 0x1.8p52;
        if (rounded < least)
            magnitude = (unsigned)(rounded / (least * power_of_2(-f.mantissa)));
        else
            magnitude = (unsigned)((bits_of_double(rounded) >> (52 - f.mantissa)) -
                                   ((uint64_t)(1023 - f.bias) << f.mantissa));
        if ((int)magnitude > f.last)
            magnitude = above;
    }
    if (f.finite_zero && (magnitude == 0 || magnitude == above))
        return magnitude;
    return magnitude | sign;
}

/* A piece of an array: `rows` by `columns`, steps in bytes. */
typedef struct {
    char *data;
    size_t rows, columns;
    ptrdiff_t row, column;
} Piece;

static ALWAYS_INLINE ptrdiff_t distance(ptrdiff_t step) { return step < 0 ? -step : step; }

/* The nearer neighbours in the inner loop. */
#define OVER(piece, ...)                                                                                               \
    if (distance((piece).row) < distance((piece).column)) {                                                  \
        for (size_t c = 0; c < (piece).columns; c++)                                                                   \
            for (size_t r = 0; r < (piece).rows; r++) {                                                                \
                char *p = (piece).data + (ptrdiff_t)r * (piece).row + (ptrdiff_t)c * (piece).column;                   \
                size_t i = r * (piece).columns + c;                                                                    \
                __VA_ARGS__;                                                                                           \
            }                                                                                                          \
    } else {                                                                                                           \
        for (size_t r = 0; r < (piece).rows; r++)                                                                      \
            for (size_t c = 0; c < (piece).columns; c++) {                                                             \
                char *p = (piece).data + (ptrdiff_t)r * (piece).row + (ptrdiff_t)c * (piece).column;                   \
                size_t i = r * (piece).columns + c;                                                                    \
                __VA_ARGS__;                                                                                           \
            }                                                                                                          \
    }

#define READ_WRITE(T)                                                                                                  \
    static NEVER_INLINE void read_##T(T *restrict to, Piece from, char letter, int swap)                               \
    {                                                                                                                  \
        const Small *small = small_format(letter);                                                                     \
        if (small) {                                                                                                   \
            const Small f = *small;                                                                                    \
            OVER(from, to[i] = (T)decode((unsigned)raw(p, f.size, swap), f))                                           \
            return;                                                                                                    \
        }                                                                                                              \
        switch (letter) {                                                                                              \
        case 'f': OVER(from, to[i] = (T)float_of((uint32_t)raw(p, 4, swap))) break;                                    \
        case 'd': OVER(from, to[i] = (T)double_of(raw(p, 8, swap))) break;                                             \
        case '?': OVER(from, to[i] = *p ? (T)1 : (T)0) break;                                                          \
        case 'b': OVER(from, to[i] = (T)(int8_t)*p) break;                                                             \
        case 'B': OVER(from, to[i] = (T)(uint8_t)*p) break;                                                            \
        case 'h': OVER(from, to[i] = (T)(int16_t)raw(p, 2, swap)) break;                                               \
        case 'H': OVER(from, to[i] = (T)(uint16_t)raw(p, 2, swap)) break;                                              \
        case 'i': OVER(from, to[i] = (T)(int32_t)raw(p, 4, swap)) break;                                               \
        case 'I': OVER(from, to[i] = (T)(uint32_t)raw(p, 4, swap)) break;                                              \
        case 'q': OVER(from, to[i] = (T)(int64_t)raw(p, 8, swap)) break;                                               \
        default: OVER(from, to[i] = (T)raw(p, 8, swap)) break;                                                         \
        }                                                                                                              \
    }                                                                                                                  \
    static NEVER_INLINE void write_##T(const T *restrict from, Piece to, char letter, int swap)                        \
    {                                                                                                                  \
        const Small *small = small_format(letter);                                                                     \
        if (small) {                                                                                                   \
            const Small f = *small;                                                                                    \
            OVER(to, put_raw(p, encode(from[i], f), f.size, swap))                                                     \
        } else if (letter == 'f')                                                                                      \
            OVER(to, put_raw(p, bits_of_float((float)from[i]), 4, swap))                                               \
        else                                                                                                           \
            OVER(to, put_raw(p, bits_of_double((double)from[i]), 8, swap))                                             \
    }

READ_WRITE(float)
READ_WRITE(double)
