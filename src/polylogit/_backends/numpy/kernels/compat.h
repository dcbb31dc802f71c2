/* What differs between builds of Python and between processors, apart from the arithmetic. Included first. */

#define PY_SSIZE_T_CLEAN
/* One binary for Python 3.11 and later. Builds without the GIL have no stable interface yet. */
#include <pyconfig.h>
#if !defined(Py_GIL_DISABLED) && !defined(Py_LIMITED_API)
#define Py_LIMITED_API 0x030b0000
#endif
#include <Python.h>

/* The arithmetic is written for rounding to nearest with gradual underflow, and its exceptions are nobody's: what
   others have set in this thread is put aside and put back. */
#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
typedef unsigned Environment;
static Environment enter_environment(void)
{
    Environment found = _mm_getcsr();
    _mm_setcsr(0x1f80);
    return found;
}
static void leave_environment(Environment found) { _mm_setcsr(found); }
#else
#include <fenv.h>
typedef fenv_t Environment;
static Environment enter_environment(void)
{
    Environment found;
    fegetenv(&found);
    fesetenv(FE_DFL_ENV);
    return found;
}
static void leave_environment(Environment found) { fesetenv(&found); }
#endif

/* The two settings that one thread may change while others compute; without the GIL nothing else orders them. Everything
   else that threads share is written once, when the package is imported. */
#if defined(__GNUC__)
#define LOAD(setting) __atomic_load_n(&(setting), __ATOMIC_RELAXED)
#define STORE(setting, value) __atomic_store_n(&(setting), (value), __ATOMIC_RELAXED)
#else /* MSVC, to which an aligned volatile word is whole */
#define LOAD(setting) (setting)
#define STORE(setting, value) ((setting) = (value))
#endif
