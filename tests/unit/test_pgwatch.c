/*
 * test_pgwatch.c: unit tests of ngx_module/ngx_http_hotpath_pgwatch.c.
 *
 * The room is included as source and run on nginx_shim.h. A thread sends as
 * fast as it can over a TCP connection, and this one reads as libpq does, until
 * nothing is left to read, which would be never: the watch has to end it. What
 * is not over its time, or waits instead of working, or is not watched any
 * more, is left alone.
 */
#include "support.h"

#include "nginx_shim.h"

#include <netinet/in.h>
#include <pthread.h>

#include "ngx_http_hotpath_pgwatch.c"

static ngx_log_t test_log;

static double processor_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void connected(int pair[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(listener, (void *)&address, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (void *)&address, &len), 0);
    pair[0] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(pair[0], (void *)&address, len), 0);
    pair[1] = accept(listener, NULL, NULL);
    assert_true(pair[1] >= 0);
    close(listener);
}

/* Sends until it may not; signals are for the other thread. */
static void *send_all(void *data)
{
    static char block[65536];
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);

    while (send(*(int *)data, block, sizeof(block), MSG_NOSIGNAL) > 0) {
    }

    return NULL;
}

static void test_endless(void **state)
{
    static char block[65536];
    pthread_t sender;
    double begin;
    int pair[2];

    (void)state;
    connected(pair);
    assert_int_equal(pthread_create(&sender, NULL, send_all, &pair[1]), 0);

    begin = processor_ms();
    ngx_http_hotpath_pgwatch_begin(pair[0], &test_log);

    while (recv(pair[0], block, sizeof(block), 0) > 0) {
    }

    assert_true(processor_ms() - begin >= NGX_HTTP_HOTPATH_PGWATCH_MS - 1);
    assert_true(processor_ms() - begin < NGX_HTTP_HOTPATH_PGWATCH_MS + 30);
    assert_int_equal(ngx_http_hotpath_pgwatch_end(), 1);

    pthread_join(sender, NULL);
    close(pair[0]);
    close(pair[1]);
}

static void test_left_alone(void **state)
{
    struct timespec wait = {0, 2 * NGX_HTTP_HOTPATH_PGWATCH_MS * 1000000};
    double begin;
    char byte;
    int pair[2], n;

    (void)state;
    connected(pair);

    for (n = 0; n < 3; n++) {
        ngx_http_hotpath_pgwatch_begin(pair[0], &test_log);

        if (n == 1) {
            nanosleep(&wait, NULL); /* no work, however long it takes */
        }

        assert_int_equal(ngx_http_hotpath_pgwatch_end(), 0);
    }

    /* after the end time passes in other work */
    for (begin = processor_ms();
         processor_ms() - begin < 3 * NGX_HTTP_HOTPATH_PGWATCH_MS;) {
    }

    assert_int_equal(ngx_http_hotpath_pgwatch_end(), 0);
    assert_int_equal(send(pair[1], "x", 1, MSG_NOSIGNAL), 1);
    assert_int_equal(recv(pair[0], &byte, 1, 0), 1);
    close(pair[0]);
    close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endless), cmocka_unit_test(test_left_alone),
        cmocka_unit_test(test_endless), /* and again */
    };

    ngx_pid = getpid();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
