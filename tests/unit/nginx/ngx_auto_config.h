/*
 * ngx_auto_config.h: what nginx's configure would find, as far as the shared
 * memory rooms need it, so that unit tests compile against nginx's headers
 * without configuring nginx. Linux, gcc or clang, 64 bits. Not for the module:
 * that is built with the real one. See nginx_shim.h.
 */
#define NGX_COMPILER "unit test"
#define NGX_LINUX 1
#define NGX_HAVE_EPOLL 1
#define NGX_HAVE_CLEAR_EVENT 1
#define NGX_HAVE_EPOLLRDHUP 1
#define NGX_HAVE_GCC_ATOMIC 1
#define NGX_HAVE_ATOMIC_OPS 1
#define NGX_HAVE_C99_VARIADIC_MACROS 1
#define NGX_HAVE_GCC_VARIADIC_MACROS 1
#define NGX_HAVE_NONALIGNED 1
#define NGX_HAVE_LITTLE_ENDIAN 1
#define NGX_HAVE_MAP_ANON 1
#define NGX_HAVE_SCHED_YIELD 1
#define NGX_HAVE_STRERRORDESC_NP 1
#define NGX_HAVE_UNIX_DOMAIN 1
#define NGX_HAVE_INET6 1
#define NGX_HAVE_O_PATH 1
#define NGX_HTTP_CACHE 1
#define NGX_CPU_CACHE_LINE 64
#define NGX_ALIGNMENT 16
#define NGX_PTR_SIZE 8
#define NGX_SIG_ATOMIC_T_SIZE 4
#define NGX_SIZE_T_SIZE 8
#define NGX_MAX_SIZE_T_VALUE 9223372036854775807LL
#define NGX_SIZE_T_LEN (sizeof("-9223372036854775808") - 1)
#define NGX_OFF_T_SIZE 8
#define NGX_MAX_OFF_T_VALUE 9223372036854775807LL
#define NGX_OFF_T_LEN (sizeof("-9223372036854775808") - 1)
#define NGX_TIME_T_SIZE 8
#define NGX_TIME_T_LEN (sizeof("-9223372036854775808") - 1)
#define NGX_MAX_TIME_T_VALUE 9223372036854775807LL
#define NGX_TIME_T_SIZE 8
#define NGX_PREFIX "/"
#define NGX_CONF_PREFIX "/"
#define NGX_USER "nobody"
#define NGX_GROUP "nogroup"
