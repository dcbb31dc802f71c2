/* The Python module: what may be passed in is checked here, and nothing behind it trusts a caller.
 *
 * Arrays are taken through the buffer protocol, so that no version of NumPy is built against. `softmax`,
 * `log_softmax` and `sigmoid` serve plain float32 and float64 arrays in one call and leave everything else to
 * functions of Python's; `apply` is what those are made of.
 */

#include "compat.h"

#include "levels.h"

#include "formats.h"

#include "arrays.h"

enum { STACK = 40960, KEEP_LOCK = 65536 }; /* bytes: of room on the stack; of arrays below which the GIL is kept */

typedef struct {
    PyObject *array_type, *empty_like, *fallback[3]; /* of softmax, log_softmax, sigmoid */
    volatile Py_ssize_t whole; /* bytes of arrays that are served without threads */
    volatile int level; /* which instruction set */
} State;

static State *state_of(PyObject *module) { return (State *)PyModule_GetState(module); }

/* --- checks ------------------------------------------------------------------------------------------------------- */

/* The bytes that an array spans, from its lowest to beyond its highest; 0 with an error set if they overflow. */
static int span(const Job *job, const Array *array, uintptr_t *low, uintptr_t *high)
{
    size_t below = 0, above = (size_t)array->size;
    for (int axis = 0; axis < job->dimensions; axis++) {
        ptrdiff_t stride = array->strides[axis];
        size_t step = stride < 0 ? (size_t)0 - (size_t)stride : (size_t)stride;
        size_t steps = job->shape[axis] - 1, *side = stride < 0 ? &below : &above;
        if (steps && step > (PTRDIFF_MAX - *side) / steps) {
            PyErr_SetString(PyExc_ValueError, "an array spans more bytes than there are addresses");
            return 0;
        }
        *side += step * steps;
    }
    if (below > (uintptr_t)array->data || above > UINTPTR_MAX - (uintptr_t)array->data) {
        PyErr_SetString(PyExc_ValueError, "an array lies beyond the addresses that there are");
        return 0;
    }
    *low = (uintptr_t)array->data - below;
    *high = (uintptr_t)array->data + above;
    return 1;
}

/* Whether each element has a place of its own: each stride is beyond all that the smaller ones reach. */
static int separate(const Job *job, const Array *array)
{
    size_t reach = (size_t)array->size;
    char done[DIMENSIONS] = {0};
    for (int i = 0; i < job->dimensions; i++) {
        int nearest = -1;
        for (int axis = 0; axis < job->dimensions; axis++)
            if (!done[axis] && job->shape[axis] > 1 &&
                (nearest < 0 || distance(array->strides[axis]) < distance(array->strides[nearest])))
                nearest = axis;
        if (nearest < 0)
            break;
        if ((size_t)distance(array->strides[nearest]) < reach)
            return 0;
        reach += (size_t)distance(array->strides[nearest]) * (job->shape[nearest] - 1);
        done[nearest] = 1;
    }
    return 1;
}

static int check_places(const Job *job)
{
    uintptr_t low[ARRAYS], high[ARRAYS];
    for (int a = 0; a < ARRAYS; a++)
        if (job->arrays[a].data && !span(job, &job->arrays[a], &low[a], &high[a]))
            return 0;
    for (int out = OUT; out < ARRAYS; out++) {
        if (!job->arrays[out].data)
            continue;
        if (!separate(job, &job->arrays[out])) {
            PyErr_SetString(PyExc_ValueError, "elements of an output share memory; give each a place of its own");
            return 0;
        }
        for (int a = 0; a < ARRAYS; a++)
            if (a != out && job->arrays[a].data && low[a] < high[out] && low[out] < high[a]) {
                PyErr_SetString(PyExc_ValueError, "an output overlaps another array; nothing is computed in place");
                return 0;
            }
    }
    return 1;
}

/* Note one buffer in the job; the first sets its shape. */
static int take(Job *job, int a, const Py_buffer *view, char letter, int swap)
{
    Array *array = &job->arrays[a];
    if (a == X) {
        size_t elements = 1;
        if (view->ndim < 0 || view->ndim > DIMENSIONS) {
            PyErr_Format(PyExc_ValueError, "an array has %d dimensions; there may be %d", view->ndim, DIMENSIONS);
            return 0;
        }
        job->dimensions = view->ndim;
        for (int axis = 0; axis < view->ndim; axis++) {
            if (view->shape[axis] < 0 ||
                (view->shape[axis] && elements > PTRDIFF_MAX / 8 / (size_t)view->shape[axis])) {
                PyErr_SetString(PyExc_ValueError, "a shape is negative or holds more elements than can be addressed");
                return 0;
            }
            job->shape[axis] = (size_t)view->shape[axis];
            elements *= job->shape[axis];
        }
    }
    int same = view->ndim == job->dimensions;
    for (int axis = 0; same && axis < job->dimensions; axis++)
        same = view->shape[axis] == (Py_ssize_t)job->shape[axis];
    if (!same) {
        PyErr_SetString(PyExc_ValueError, "the arrays have different shapes; broadcast them first");
        return 0;
    }
    if (!format_size(letter) || view->itemsize != format_size(letter)) {
        PyErr_Format(PyExc_ValueError, "format %c does not have the %zd bytes of an element", letter, view->itemsize);
        return 0;
    }
    int floating = letter == 'f' || letter == 'd' || small_format(letter);
    if ((a == MASK) != (letter == '?') && (a == MASK || a > MASK)) {
        PyErr_SetString(PyExc_ValueError, "a mask has the format ?, an output a floating one");
        return 0;
    }
    if (a >= OUT && !floating) {
        PyErr_SetString(PyExc_ValueError, "an output has a floating format");
        return 0;
    }
    array->data = view->buf;
    array->letter = letter;
    array->size = format_size(letter);
    array->swap = swap && array->size > 1;
    for (int axis = 0; axis < job->dimensions; axis++)
        array->strides[axis] = view->strides ? view->strides[axis] : 0;
    return 1;
}

static int is_empty(const Job *job)
{
    for (int axis = 0; axis < job->dimensions; axis++)
        if (!job->shape[axis])
            return 1;
    return 0;
}

/* --- running ------------------------------------------------------------------------------------------------------ */

/* Without the GIL if it is worth it, and with the floating-point environment that the arithmetic is written for. */
static int run_freely(const Job *job, int stage, size_t first, size_t last, double *states, size_t bytes)
{
    char small[STACK + 64], *memory = small, *aligned;
    size_t needed = room(job) + 64;
    if (needed > sizeof small && !(memory = malloc(needed))) {
        PyErr_NoMemory();
        return 0;
    }
    aligned = memory + (64 - (uintptr_t)memory % 64) % 64;
    Environment environment;
    if (bytes > KEEP_LOCK) {
        Py_BEGIN_ALLOW_THREADS
        environment = enter_environment();
        run(job, stage, first, last, states, aligned);
        leave_environment(environment);
        Py_END_ALLOW_THREADS
    } else {
        environment = enter_environment();
        run(job, stage, first, last, states, aligned);
        leave_environment(environment);
    }
    if (memory != small)
        free(memory);
    return 1;
}

static void choose(Job *job, State *state)
{
    job->kernels = &LEVELS[LOAD(state->level)].kernels[job->wide];
}

PyDoc_STRVAR(apply_doc, "apply(operation, along, wide, axes, formats, arrays, stage, first, last, states)\n--\n\n"
"Compute some units of a job; with stage -1, tell (units, segments of each, doubles of state).\n\n"
"arrays: x, other, mask, out, kept, each a buffer or None, of one shape; formats: a letter for each, and ~ after it\n"
"for the other byte order, = for the machine's; axes: a byte for each dimension, 1 where it is reduced.");

static PyObject *apply(PyObject *module, PyObject *args)
{
    int operation, along, wide, stage, taken = 0, ok = 0;
    Py_ssize_t axes_length, formats_length, first, last;
    const char *axes, *formats;
    PyObject *arrays, *states, *result = NULL;
    Py_buffer views[ARRAYS + 1];
    Job *job = NULL;
    if (!PyArg_ParseTuple(args, "ipps#s#O!innO:apply", &operation, &along, &wide, &axes, &axes_length, &formats,
                          &formats_length, &PyTuple_Type, &arrays, &stage, &first, &last, &states))
        return NULL;
    if (operation < 0 || operation >= OPERATIONS || stage < -1 || stage > RESULTS || PyTuple_Size(arrays) != ARRAYS ||
        formats_length != 2 * ARRAYS) {
        PyErr_SetString(PyExc_ValueError, "no such operation or stage, or not five arrays with five formats");
        return NULL;
    }
    for (int a = 0; a <= ARRAYS; a++)
        views[a].obj = NULL;
    if (!(job = calloc(1, sizeof *job)))
        return PyErr_NoMemory();
    job->operation = operation;
    job->along = along;
    job->wide = wide;
    for (int a = 0; a < ARRAYS; a++) {
        PyObject *array = PyTuple_GetItem(arrays, a);
        if (array == Py_None)
            continue;
        if (PyObject_GetBuffer(array, &views[a], a >= OUT ? PyBUF_STRIDED : PyBUF_STRIDED_RO) < 0)
            goto done;
        taken |= 1 << a;
        if ((a > X && !(taken & 1)) || !take(job, a, &views[a], formats[2 * a], formats[2 * a + 1] == '~'))
            goto wrong;
    }
    int pair = operation >= SOFTMAX_PULL && operation != SIGMOID && operation != LOG_SOFTMAX_PULL;
    int needed = 1 << X | 1 << OUT;
    if (pair || operation == LOG_SOFTMAX_PULL || along)
        needed |= 1 << OTHER;
    if (along)
        needed |= 1 << KEPT;
    if ((taken & needed) != needed || (along && operation > LOG_SOFTMAX && operation != SIGMOID) ||
        (operation >= SIGMOID && (taken & 1 << MASK)) ||
        (operation > LOG_SOFTMAX && operation != SIGMOID && (taken & 1 << KEPT)))
        goto wrong;
    if (axes_length != job->dimensions)
        goto wrong;
    if (is_empty(job)) {
        result = stage == -1 ? Py_BuildValue("nnn", (Py_ssize_t)0, (Py_ssize_t)0, (Py_ssize_t)0) : Py_NewRef(Py_None);
        goto done;
    }
    if (!check_places(job))
        goto done;
    char none[DIMENSIONS] = {0};
    plan(job, operation >= SIGMOID ? none : axes);
    choose(job, state_of(module));
    if (stage == -1) {
        result = Py_BuildValue("nnn", (Py_ssize_t)job->units, (Py_ssize_t)job->segments, (Py_ssize_t)state_size(job));
        goto done;
    }
    size_t units = job->units * (stage == ALL ? 1 : job->segments);
    if (first < 0 || last < first || (size_t)last > units || (stage != ALL && job->single))
        goto wrong;
    if (stage != ALL) {
        if (PyObject_GetBuffer(states, &views[ARRAYS], PyBUF_WRITABLE) < 0)
            goto done;
        taken |= 1 << ARRAYS;
        if ((size_t)views[ARRAYS].len / 8 < state_size(job) || (uintptr_t)views[ARRAYS].buf % 8)
            goto wrong;
    }
    ok = run_freely(job, stage, (size_t)first, (size_t)last, stage == ALL ? NULL : views[ARRAYS].buf,
                    (size_t)(last - first) * KEEP_LOCK);
    result = ok ? Py_NewRef(Py_None) : NULL;
    goto done;
wrong:
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "the arrays, axes, units or states do not fit the operation or each other");
done:
    for (int a = 0; a <= ARRAYS; a++)
        if (taken & 1 << a)
            PyBuffer_Release(&views[a]);
    free(job);
    return result;
}

/* --- in one call -------------------------------------------------------------------------------------------------- */

/* The result for a plain float32 or float64 array; NULL without an error where it is another's to serve. */
static PyObject *serve(State *state, int operation, PyObject *x, long axis)
{
    Py_buffer in, out;
    PyObject *result = NULL;
    Job job;
    if (PyObject_GetBuffer(x, &in, PyBUF_STRIDED_RO | PyBUF_FORMAT) < 0) {
        PyErr_Clear(); /* of a dtype that buffers do not know */
        return NULL;
    }
    const char *format = in.format;
    if (!format || (*format != 'f' && *format != 'd') || format[1] || in.ndim < 1 || !in.len || in.len > LOAD(state->whole) ||
        axis < -in.ndim || axis >= in.ndim)
        goto release;
    /* Not all of it need be cleared: that would take longer than eight exponentials. */
    job.operation = operation;
    job.along = 0;
    job.wide = *format == 'd';
    for (int a = 0; a < ARRAYS; a++)
        job.arrays[a].data = NULL;
    if (!(result = PyObject_CallFunctionObjArgs(state->empty_like, x, NULL)))
        goto release;
    if (PyObject_GetBuffer(result, &out, PyBUF_STRIDED) < 0) {
        Py_CLEAR(result);
        goto release;
    }
    char axes[DIMENSIONS] = {0};
    axes[axis < 0 ? axis + in.ndim : axis] = operation != SIGMOID;
    int ok = take(&job, X, &in, *format, 0) && take(&job, OUT, &out, *format, 0) && check_places(&job);
    if (ok) {
        plan(&job, axes);
        choose(&job, state);
        ok = run_freely(&job, ALL, 0, job.units, NULL, (size_t)in.len);
    }
    PyBuffer_Release(&out);
    if (!ok)
        Py_CLEAR(result);
release:
    PyBuffer_Release(&in);
    return result;
}

static PyObject *
serve_or_leave(PyObject *module, int operation, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    State *state = state_of(module);
    int number = operation == SIGMOID ? 2 : operation;
    long axis = -1;
    if (!names && count >= 1 && count <= (operation == SIGMOID ? 1 : 2) &&
        (PyObject *)Py_TYPE(args[0]) == state->array_type &&
        (count == 1 || (PyObject *)Py_TYPE(args[1]) == (PyObject *)&PyLong_Type)) {
        if (count == 2)
            axis = PyLong_AsLong(args[1]);
        PyObject *result = PyErr_Occurred() ? NULL : serve(state, operation, args[0], axis);
        if (result || (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_OverflowError)))
            return result;
        PyErr_Clear();
    }
    if (!state->fallback[number]) {
        PyErr_SetString(PyExc_TypeError, "the module has not been set up with functions for other arrays");
        return NULL;
    }
    PyObject *positional = PyTuple_New(count), *keywords = names ? PyDict_New() : NULL, *result = NULL;
    if (!positional || (names && !keywords))
        goto done;
    for (Py_ssize_t i = 0; i < count; i++)
        PyTuple_SetItem(positional, i, Py_NewRef(args[i]));
    for (Py_ssize_t i = 0; names && i < PyTuple_Size(names); i++)
        if (PyDict_SetItem(keywords, PyTuple_GetItem(names, i), args[count + i]) < 0)
            goto done;
    result = PyObject_Call(state->fallback[number], positional, keywords);
done:
    Py_XDECREF(positional);
    Py_XDECREF(keywords);
    return result;
}

#define SERVER(name, operation)                                                                                        \
    static PyObject *name(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *names)                  \
    {                                                                                                                  \
        return serve_or_leave(module, operation, args, count, names);                                                  \
    }
SERVER(softmax, SOFTMAX)
SERVER(log_softmax, LOG_SOFTMAX)
SERVER(sigmoid, SIGMOID)

/* --- the module --------------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(set_up_doc, "set_up(array_type, empty_like, softmax, log_softmax, sigmoid)\n--\n\n"
"Name the array type and how to make an array like another, and the functions that serve all other calls.");

static PyObject *set_up(PyObject *module, PyObject *args)
{
    State *state = state_of(module);
    PyObject *given[5], **kept[5] = {&state->array_type, &state->empty_like, &state->fallback[0], &state->fallback[1],
                                     &state->fallback[2]};
    if (!PyArg_ParseTuple(args, "OOOOO:set_up", &given[0], &given[1], &given[2], &given[3], &given[4]))
        return NULL;
    for (int i = 0; i < 5; i++) {
        PyObject *old = *kept[i];
        *kept[i] = Py_NewRef(given[i]);
        Py_XDECREF(old);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(serve_up_to_doc, "serve_up_to(bytes)\n--\n\nLeave larger arrays to the functions for other calls.");

static PyObject *serve_up_to(PyObject *module, PyObject *number)
{
    Py_ssize_t bytes = PyLong_AsSsize_t(number);
    if (bytes == -1 && PyErr_Occurred())
        return NULL;
    STORE(state_of(module)->whole, bytes);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(instruction_sets_doc, "instruction_sets()\n--\n\nThose that this processor has, the one in use last.");

static PyObject *instruction_sets(PyObject *module, PyObject *unused)
{
    (void)unused;
    int here = levels_here(), level = LOAD(state_of(module)->level);
    PyObject *names = PyList_New(0);
    for (int i = 0; names && i <= here; i++) {
        int at = i == here ? level : i;
        if (i < here && at == level)
            continue;
        PyObject *name = PyUnicode_FromString(LEVELS[at].name);
        if (!name || PyList_Append(names, name) < 0)
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

PyDoc_STRVAR(use_doc, "use(name)\n--\n\nUse an instruction set that this processor has.");

static PyObject *use(PyObject *module, PyObject *args)
{
    const char *name;
    if (!PyArg_ParseTuple(args, "s:use", &name))
        return NULL;
    for (int i = 0; i < levels_here(); i++)
        if (!strcmp(name, LEVELS[i].name)) {
            STORE(state_of(module)->level, i);
            Py_RETURN_NONE;
        }
    PyErr_Format(PyExc_ValueError, "this processor has no instruction set %s, or the module no code for it", name);
    return NULL;
}

#define AS_FUNCTION(f) (PyCFunction)(void (*)(void))f

static PyMethodDef methods[] = {
    {"softmax", AS_FUNCTION(softmax), METH_FASTCALL | METH_KEYWORDS,
     "softmax(x, axis=-1, where=None, dtype=None)\n--\n\n"},
    {"log_softmax", AS_FUNCTION(log_softmax), METH_FASTCALL | METH_KEYWORDS,
     "log_softmax(x, axis=-1, where=None, dtype=None)\n--\n\n"},
    {"sigmoid", AS_FUNCTION(sigmoid), METH_FASTCALL | METH_KEYWORDS, "sigmoid(x, dtype=None)\n--\n\n"},
    {"apply", apply, METH_VARARGS, apply_doc},
    {"set_up", set_up, METH_VARARGS, set_up_doc},
    {"serve_up_to", serve_up_to, METH_O, serve_up_to_doc},
    {"instruction_sets", instruction_sets, METH_NOARGS, instruction_sets_doc},
    {"use", use, METH_VARARGS, use_doc},
    {NULL, NULL, 0, NULL},
};

static int begin(PyObject *module)
{
    State *state = state_of(module);
    state->whole = PY_SSIZE_T_MAX;
    state->level = levels_here() - 1;
    return 0;
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = state_of(module);
    Py_VISIT(state->array_type);
    Py_VISIT(state->empty_like);
    for (int i = 0; i < 3; i++)
        Py_VISIT(state->fallback[i]);
    return 0;
}

static int clear(PyObject *module)
{
    State *state = state_of(module);
    Py_CLEAR(state->array_type);
    Py_CLEAR(state->empty_like);
    for (int i = 0; i < 3; i++)
        Py_CLEAR(state->fallback[i]);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)begin},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_kernels", "The arithmetic of the NumPy backend.", sizeof(State), methods, slots,
    traverse, clear, NULL,
};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModuleDef_Init(&definition); }
