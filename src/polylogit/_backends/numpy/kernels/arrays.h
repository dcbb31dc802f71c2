/* From arrays to tiles: which elements form a row, what lies side by side, what must be copied to be worked on.
 *
 * A job is up to five arrays of one shape and the axes that are reduced. The elements of a row are numbered in the
 * order of their axes, whatever the strides. Arrays arrive checked (module.c); this knows no Python, so that it runs
 * without the GIL.
 */

enum { X, OTHER, MASK, OUT, KEPT, ARRAYS, DIMENSIONS = 64 };

enum {
    ALL,   /* rows from beginning to end */
    SUMS,  /* the first pass over segments of rows, whose state is left to the caller */
    RESULTS, /* the last pass over them */
};

typedef struct {
    char *data;        /* NULL: not given */
    char letter;       /* its format, see formats.h */
    int size, swap, direct;
    ptrdiff_t strides[DIMENSIONS], kept[DIMENSIONS], reduced[DIMENSIONS];
} Array;

typedef struct {
    int operation, along, wide, columns, single, kept_axes, reduced_axes, dimensions;
    size_t shape[DIMENSIONS], kept[DIMENSIONS], reduced[DIMENSIONS];
    size_t length, strip, strips, segments, units, rows; /* strips: of the innermost kept axis; rows: in a buffer */
    Array arrays[ARRAYS];
    const Kernels *kernels;
} Job;

/* Rows shorter than this are turned into columns to be worked on: one by one they would cost more than that. */
enum { SHORT = 32, TILE_BYTES = 131072, IN_CACHE = 2097152, MANY = 2048 };

static int adjoining(const Job *job, int outer, int inner)
{
    for (int a = 0; a < ARRAYS; a++) {
        const Array *array = &job->arrays[a];
        if (array->data && array->strides[outer] != array->strides[inner] * (ptrdiff_t)job->shape[inner])
            return 0;
    }
    return 1;
}

/* Merge the axes of one group that are one to every array; returns how many are left, at least 1. */
static int merge_axes(Job *job, const int *axes, int count, int reduced)
{
    size_t *sizes = reduced ? job->reduced : job->kept;
    int merged = 0;
    for (int i = 0; i < count; i++) {
        int joins = i && adjoining(job, axes[i - 1], axes[i]);
        int at = joins ? merged - 1 : merged++;
        sizes[at] = joins ? sizes[at] * job->shape[axes[i]] : job->shape[axes[i]];
        for (int a = 0; a < ARRAYS; a++)
            if (job->arrays[a].data)
                (reduced ? job->arrays[a].reduced : job->arrays[a].kept)[at] = job->arrays[a].strides[axes[i]];
    }
    if (merged)
        return merged;
    *sizes = 1;
    for (int a = 0; a < ARRAYS; a++)
        *(reduced ? job->arrays[a].reduced : job->arrays[a].kept) = 0;
    return 1;
}

/* Whether the kernels can work where the array lies. */
static int is_direct(const Job *job, const Array *array)
{
    ptrdiff_t size = job->wide ? 8 : 4;
    int last = job->kept_axes - 1;
    if (!array->data || array->letter != (job->wide ? 'd' : 'f') || array->swap || job->arrays[MASK].data)
        return 0;
    if (job->reduced_axes > 1 || (uintptr_t)array->data % (size_t)size)
        return 0;
    for (int i = 0; i < job->kept_axes; i++)
        if (array->kept[i] % size && job->kept[i] > 1)
            return 0;
    if (!job->columns)
        return job->length == 1 || array->reduced[0] == size;
    return (job->kept[last] == 1 || array->kept[last] == size) && array->reduced[0] % size == 0;
}

static void plan(Job *job, const char *is_reduced)
{
    int kept[DIMENSIONS], reduced[DIMENSIONS], kept_count = 0, reduced_count = 0;
    for (int axis = 0; axis < job->dimensions; axis++)
        if (job->shape[axis] > 1 && is_reduced[axis])
            reduced[reduced_count++] = axis;
        else if (job->shape[axis] > 1) {
            /* The longest strides first, and of equal ones in order. */
            int at = kept_count++;
            ptrdiff_t stride = distance(job->arrays[X].strides[axis]);
            for (; at && distance(job->arrays[X].strides[kept[at - 1]]) < stride; at--)
                kept[at] = kept[at - 1];
            kept[at] = axis;
        }
    job->kept_axes = merge_axes(job, kept, kept_count, 0);
    job->reduced_axes = merge_axes(job, reduced, reduced_count, 1);
    job->length = 1;
    for (int i = 0; i < job->reduced_axes; i++)
        job->length *= job->reduced[i];
    size_t size = job->wide ? 8 : 4, inner = job->kept[job->kept_axes - 1];
    const Array *x = &job->arrays[X];
    int nearer = distance(x->kept[job->kept_axes - 1]) < distance(x->reduced[job->reduced_axes - 1]);
    job->single = job->length == 1; /* no reduction: each element by itself */
    job->columns = job->single || (inner > 1 && (nearer || job->length < SHORT));
    for (int a = 0; a < ARRAYS; a++)
        job->arrays[a].direct = is_direct(job, &job->arrays[a]);
    job->rows = LEAST(job->length, CHUNK);
    int direct = 1;
    for (int a = 0; a < ARRAYS; a++)
        direct = direct && (!job->arrays[a].data || job->arrays[a].direct);
    if (job->single)
        job->strip = MANY;
    else if (!job->columns)
        job->strip = direct && job->length <= CHUNK ? BATCH : 1;
    else {
        size_t fitting = (direct ? 4 * TILE_BYTES : TILE_BYTES) / (job->rows * size);
        job->strip = fitting < 16 ? 16 : LEAST(fitting, STRIP);
    }
    job->strips = (inner + job->strip - 1) / job->strip;
    job->segments = (job->length + SEGMENT - 1) / SEGMENT;
    job->units = job->strips;
    for (int i = 0; i < job->kept_axes - 1; i++)
        job->units *= job->kept[i];
}

/* --- tiles -------------------------------------------------------------------------------------------------------- */

typedef struct {
    const Job *job;
    char *data[ARRAYS];    /* where the unit begins in each array */
    char *buffers[ARRAYS]; /* room for what is not direct */
    char *mask;            /* and for the mask, a byte an element */
    size_t width;
    Tile tile;
} Unit;

static void piece_of(const Unit *unit, int a, size_t first, size_t *done, size_t length, Piece *piece)
{
    /* A run of the innermost reduced axis, from element first + done on. */
    const Job *job = unit->job;
    const Array *array = &job->arrays[a];
    int last = job->reduced_axes - 1;
    size_t at = first + *done, inner = job->reduced[last], offset = at % inner;
    piece->data = unit->data[a] + (ptrdiff_t)offset * array->reduced[last];
    at /= inner;
    for (int i = last - 1; i >= 0; i--) {
        piece->data += (ptrdiff_t)(at % job->reduced[i]) * array->reduced[i];
        at /= job->reduced[i];
    }
    piece->rows = LEAST(inner - offset, length - *done);
    piece->columns = unit->width;
    piece->row = array->reduced[last];
    piece->column = array->kept[job->kept_axes - 1];
    *done += piece->rows;
}

/* The elements from `first` on of one array, where they lie or copied; what the mask leaves out is `absent`. */
static void *fetch(const Unit *unit, int a, size_t first, size_t length, double absent, ptrdiff_t *pitch)
{
    const Job *job = unit->job;
    const Array *array = &job->arrays[a];
    ptrdiff_t size = job->wide ? 8 : 4;
    if (!array->data)
        return NULL;
    if (array->direct) {
        *pitch = (job->columns ? array->reduced[0] : array->kept[job->kept_axes - 1]) / size;
        return unit->data[a] + (ptrdiff_t)first * array->reduced[0];
    }
    *pitch = (ptrdiff_t)unit->width;
    if (a >= OUT)
        return unit->buffers[a];
    for (size_t done = 0; done < length;) {
        Piece piece;
        char *to = unit->buffers[a] + done * unit->width * (size_t)size;
        piece_of(unit, a, first, &done, length, &piece);
        if (job->wide)
            read_double((double *)to, piece, array->letter, array->swap);
        else
            read_float((float *)to, piece, array->letter, array->swap);
    }
    for (size_t i = 0; job->arrays[MASK].data && i < length * unit->width; i++)
        if (!unit->mask[i] && job->wide)
            ((double *)unit->buffers[a])[i] = absent;
        else if (!unit->mask[i])
            ((float *)unit->buffers[a])[i] = (float)absent;
    return unit->buffers[a];
}

/* What was computed in a buffer, to where it belongs. */
static void store(const Unit *unit, int a, size_t first, size_t length, double filler)
{
    const Job *job = unit->job;
    const Array *array = &job->arrays[a];
    if (!array->data || array->direct)
        return;
    for (size_t i = 0; job->arrays[MASK].data && i < length * unit->width; i++)
        if (!unit->mask[i] && job->wide)
            ((double *)unit->buffers[a])[i] = filler;
        else if (!unit->mask[i])
            ((float *)unit->buffers[a])[i] = (float)filler;
    for (size_t done = 0; done < length;) {
        Piece piece;
        const char *from = unit->buffers[a] + done * unit->width * (job->wide ? 8 : 4);
        piece_of(unit, a, first, &done, length, &piece);
        if (job->wide)
            write_double((const double *)from, piece, array->letter, array->swap);
        else
            write_float((const float *)from, piece, array->letter, array->swap);
    }
}

static void fetch_inputs(Unit *unit, size_t first, size_t length)
{
    const Job *job = unit->job;
    int terms = job->operation <= LOG_SOFTMAX;
    for (size_t done = 0; job->arrays[MASK].data && done < length;) {
        Piece piece;
        char *to = unit->mask + done * unit->width;
        piece_of(unit, MASK, first, &done, length, &piece);
        OVER(piece, to[i] = *p)
    }
    unit->tile.length = length;
    unit->tile.x = fetch(unit, X, first, length, terms ? -INFINITY : 0, &unit->tile.x_pitch);
    unit->tile.other = fetch(unit, OTHER, first, length, 0, &unit->tile.other_pitch);
    /* The next chunk of these rows, or the next rows. */
    unit->tile.ahead = 0;
    if (job->arrays[X].direct && !job->single) {
        const Array *x = &job->arrays[X];
        ptrdiff_t step = first + length < job->length ? (ptrdiff_t)CHUNK * x->reduced[0]
                                                      : (ptrdiff_t)unit->width * x->kept[job->kept_axes - 1];
        unit->tile.ahead = step / (job->wide ? 8 : 4);
    }
}

static void fetch_outputs(Unit *unit, size_t first, size_t length)
{
    unit->tile.out = fetch(unit, OUT, first, length, 0, &unit->tile.out_pitch);
    unit->tile.kept = fetch(unit, KEPT, first, length, 0, &unit->tile.kept_pitch);
}

/* --- passes ------------------------------------------------------------------------------------------------------- */

/* Sum the elements from `first` to `last`. If the terms can stay in the result they do; returns from where on. */
static size_t sums(Unit *unit, size_t first, size_t last, double *state, int stay)
{
    size_t from = first;
    unit->tile.state = state;
    unit->tile.first = 1;
    for (size_t at = first; at < last; at += CHUNK) {
        size_t length = LEAST(last - at, CHUNK);
        fetch_inputs(unit, at, length);
        fetch_outputs(unit, at, length);
        if (!stay)
            unit->tile.out = NULL;
        if (unit->job->kernels->sum(&unit->tile))
            from = at;
        unit->tile.first = 0;
    }
    return stay ? from : last;
}

/* Compute the results from `first` to `last`; `fetched`: the only chunk is there; `scaled`: from where terms are. */
static void results(Unit *unit, size_t first, size_t last, double *state, int fetched, size_t scaled)
{
    unit->tile.state = state;
    for (size_t at = first; at < last; at += CHUNK) {
        size_t length = LEAST(last - at, CHUNK);
        if (!fetched)
            fetch_inputs(unit, at, length);
        fetch_outputs(unit, at, length);
        unit->tile.scaled = at >= scaled;
        unit->job->kernels->finish(&unit->tile);
        store(unit, OUT, at, length, unit->job->operation == LOG_SOFTMAX ? -INFINITY : 0);
        store(unit, KEPT, at, length, 0);
    }
}

/* Rows from beginning to end, segment after segment. */
static void whole(Unit *unit, double *state, double *next)
{
    const Job *job = unit->job;
    size_t length = job->length, bytes = length * unit->width * (job->wide ? 8 : 4), scaled = length;
    int once = length <= CHUNK;
    int stay = job->operation == SOFTMAX && !job->along && job->segments == 1 &&
               (once || (job->arrays[OUT].direct && bytes <= IN_CACHE));
    for (size_t segment = 0; segment < job->segments; segment++) {
        size_t first = segment * SEGMENT;
        scaled = sums(unit, first, LEAST(length, first + SEGMENT), segment ? next : state, stay);
        if (segment)
            job->kernels->merge(state, next, unit->width);
    }
    results(unit, 0, length, state, once, scaled);
}

static void elements(Unit *unit)
{
    fetch_inputs(unit, 0, 1);
    fetch_outputs(unit, 0, 1);
    unit->tile.length = unit->width;
    unit->job->kernels->each(&unit->tile);
    store(unit, OUT, 0, 1, unit->job->operation == LOG_SOFTMAX ? -INFINITY : 0);
    store(unit, KEPT, 0, 1, 0);
}

/* How many columns a unit has at most. */
static size_t widest(const Job *job) { return LEAST(job->strip, job->kept[job->kept_axes - 1]); }

/* Bytes of room that a job needs beside its arrays, for each thread. */
static size_t room(const Job *job)
{
    size_t elements = (job->rows * widest(job) + 7) / 8 * 8, bytes = job->arrays[MASK].data ? elements : 0;
    for (int a = 0; a < ARRAYS; a++)
        if (a != MASK && job->arrays[a].data && !job->arrays[a].direct)
            bytes += elements * (job->wide ? 8 : 4);
    if (!job->single)
        bytes += (2 * FIELDS * widest(job) + scratch_size(widest(job), job->columns)) * 8;
    return bytes;
}

/* Doubles of state that the segments of all rows need between SUMS and RESULTS. */
static size_t state_size(const Job *job)
{
    return job->units * job->segments * FIELDS * widest(job);
}

/* The units from `first` to `last`, which are segments of them unless the stage is ALL; `memory` is of `room` bytes. */
static void run(const Job *job, int stage, size_t first, size_t last, double *states, char *memory)
{
    size_t width = widest(job), segments = stage == ALL ? 1 : job->segments;
    double *state = (double *)memory, *next = state + FIELDS * width, *scratch = next + FIELDS * width;
    Unit unit = {.job = job};
    unit.tile = (Tile){.operation = job->operation, .along = job->along, .columns = job->columns, .scratch = scratch};
    char *at = job->single ? memory : (char *)(scratch + scratch_size(width, job->columns));
    for (int a = 0; a < ARRAYS; a++)
        if (a != MASK && job->arrays[a].data && !job->arrays[a].direct) {
            unit.buffers[a] = at;
            at += (job->rows * width + 7) / 8 * 8 * (job->wide ? 8 : 4);
        }
    unit.mask = at;
    for (size_t index = first; index < last; index++) {
        size_t left = index / segments, segment = index % segments, strip = left % job->strips;
        size_t column = strip * job->strip, position[DIMENSIONS];
        int inner = job->kept_axes - 1;
        left /= job->strips;
        for (int i = inner - 1; i >= 0; i--) {
            position[i] = left % job->kept[i];
            left /= job->kept[i];
        }
        position[inner] = column;
        for (int a = 0; a < ARRAYS; a++) {
            unit.data[a] = job->arrays[a].data;
            for (int i = 0; unit.data[a] && i <= inner; i++)
                unit.data[a] += (ptrdiff_t)position[i] * job->arrays[a].kept[i];
        }
        unit.width = unit.tile.width = LEAST(job->strip, job->kept[inner] - column);
        size_t begin = segment * SEGMENT, end = LEAST(job->length, begin + SEGMENT);
        double *mine = states ? states + (index - segment) * FIELDS * width : NULL;
        if (job->single)
            elements(&unit);
        else if (stage == ALL)
            whole(&unit, state, next);
        else if (stage == SUMS)
            sums(&unit, begin, end, mine + segment * FIELDS * width, 0);
        else {
            memcpy(state, mine, FIELDS * unit.width * sizeof(double));
            for (size_t other = 1; other < segments; other++)
                job->kernels->merge(state, mine + other * FIELDS * width, unit.width);
            results(&unit, begin, end, state, 0, job->length);
        }
    }
}
